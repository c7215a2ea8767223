"""The steps of `examine` in a row by the extension `_examine.c`, where it is built. `engine` says what is right."""

import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypeVar

from decisioning.by_cells import MOST_BITS
from decisioning.domain import Facts, Request, Stage
from decisioning.experiments import BUCKETS, Assignment, bucket_of
from decisioning.knowledge import Knowledge
from decisioning.limits import Drop
from decisioning.native import native
from decisioning.plan import Screen, SurfacePlan
from decisioning.rules import Budget

VERSION = 2
"""Of what Python and the extension ask of one another: both have the same."""

MOST_BUDGETS = 256
MOST_UNITS = 2**53
"""Of a budget: what a double holds exactly. What is more is left to Python."""

R = TypeVar("R")
C = TypeVar("C")

Examine = Callable[[R, Request, Facts], C]
"""(release, request, facts) → Case, for requests to one surface."""


def examiner(
    plan: SurfacePlan, known: Knowledge, assignment: Assignment, case: type[C], twin: Examine[R, C]
) -> Examine[R, C]:
    """What does the same as `twin`; that itself where the extension isn't there, or the rules are too many."""
    found, limits = native("decisioning._examine", VERSION), plan.limits
    budgets = tuple(_budgets(limits.budgets))
    many = len(plan.index.conditions) > MOST_BITS or len(budgets) > MOST_BUDGETS
    many = many or any(abs(budget.impressions) > MOST_UNITS for budget, _ in limits.budgets)
    if found is None or many or sys.byteorder != "little":
        return twin
    made = found.Examiner(
        twin=twin,
        case=case,
        screen=Screen,
        request=Request,
        facts=Facts,
        plan=plan,
        known=known.values,
        merge=known.merge,
        freshest=float(known.freshest),
        bucket=bucket_of,
        buckets=BUCKETS,
        holdouts=assignment.holdouts_on(plan.surface.name),
        arms=assignment.by_c or assignment.arms,
        evaluate=plan.index.evaluate,
        counts=(
            plan.everything.bit_length(),
            len(plan.offers),
            len(plan.rules),
            len(plan.weights),
            len(plan.index.conditions),
        ),
        wanted=plan.wanted,
        killed=(Stage.KILLED, 0),
        excluded=(Stage.EXCLUDED, 0),
        eligible=(Stage.ELIGIBLE, 0),
        live_starts=struct.pack(f"{len(plan.not_live.starts)}d", *plan.not_live.starts),
        live_drops=tuple(plan.not_live.values),
        rule_drops=plan.rule_drops,
        past=limits.past.tallies.drops,
        shut=limits.past.shut,
        closed=limits.past.closed,
        history="history",
        limits=limits.drops if limits.quiet else None,
        budgets=() if limits.quiet else budgets,
    )
    return made.examine  # type: ignore[no-any-return]


def _budgets(budgets: Iterable[tuple[Budget, Drop]]) -> Iterator[tuple[str, Drop, float, float, float, bool, bool]]:
    """Each as (name, what it drops, from when, until when, impressions, whether it is paced, whether it is hard)."""
    for budget, drop in budgets:
        starts = budget.starts or 0.0
        until = inf if budget.until is None else budget.until
        even = budget.even and budget.starts is not None and budget.until is not None
        yield budget.name, drop, starts, until, float(budget.impressions), even, budget.hard
