"""What `segue decide-all` writes of each decision, and what it counts."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from decisioning.domain import NOTHING, Decision, Facts, Request, Shown, Stage
from decisioning.engine import Release, examine
from decisioning.reasons import reason
from evaluation.batch.desk import Answer
from evaluation.batch.whole_files import Tally

NAME = pa.dictionary(pa.int32(), pa.string())
SHOWN = pa.struct(
    [
        ("slot", pa.int32()),
        ("offer", pa.string()),
        ("creative", pa.string()),
        ("p_convert", pa.float64()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
    ]
)
COLUMNS = pa.schema(
    [
        ("user_id", pa.string()),
        ("decision_id", pa.string()),
        ("offer", NAME),
        ("slate", pa.list_(SHOWN)),
        ("source", NAME),
        ("model", NAME),
        ("why", NAME),
        ("arms", pa.map_(pa.string(), pa.string())),
        ("holdout", NAME),
        ("degraded", pa.list_(pa.string())),
        ("given_before", pa.bool_()),
        ("release", NAME),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
GIVEN_BEFORE, EXPLORED, WORTHLESS = "given_before", "explored", "worth_nothing"


def table(release: Release, answers: Sequence[Answer]) -> pa.Table:
    """One row a decision, in their order. `why` says why nothing is shown."""
    return pa.Table.from_pylist([_row(release, one) for one in answers], COLUMNS)


def _row(release: Release, answer: Answer) -> dict[str, Any]:
    decision, request = answer.decision, answer.visit.request
    return {
        "user_id": answer.visit.user_id,
        "decision_id": decision.decision_id,
        "offer": decision.slate[0].offer if decision.slate else None,
        "slate": [_shown(one) for one in decision.slate],
        "source": str(decision.source),
        "model": decision.model,
        "why": None if decision.slate else _why(release, answer),
        "arms": list(decision.arms.items()),
        "holdout": decision.holdout,
        "degraded": list(decision.degraded),
        "given_before": not answer.is_new,
        "release": decision.release,
        "at": datetime.fromtimestamp(request.now, UTC),
    }


def _why(release: Release, answer: Answer) -> str:
    if not answer.is_new:
        return GIVEN_BEFORE
    return why_nothing(release, answer.visit.request, answer.facts, answer.decision)


def _shown(one: Shown) -> dict[str, Any]:
    return {
        "slot": one.slot,
        "offer": one.offer,
        "creative": one.creative,
        "p_convert": one.p_convert,
        "score": one.score,
        "probability": one.probability,
    }


def why_nothing(release: Release, request: Request, facts: Facts, decision: Decision) -> str:
    """Why a decision shows nothing, in a word or two: what the offer that came farthest fell to.

    The stage, and the rule where it has a name, such as `cap:push_daily`; `threshold`; `worth_nothing` where no offer
    is worth more than nothing; `explored` where the draw fell on that.
    """
    if decision.policy is not None:
        return WORTHLESS if decision.policy.champion == NOTHING else EXPLORED
    case = examine(release, request, facts)
    left = case.plan.everything
    if case.screen.left or not left:
        return str(Stage.THRESHOLD) if left else "no_offers"
    for drop in case.screen.drops:
        lost, left = left & drop[2], left & ~drop[2]
        if not left:
            break
    offer = case.plan.offers[lost.bit_length() - 1]
    rule = reason(case, drop, offer).rule
    return str(drop[0]) if rule == offer.name else f"{drop[0]}:{rule}"


def counted(rows: pa.Table, answers: Sequence[Answer]) -> Tally:
    """What a table of answers adds to the tally of a run."""
    offers = Counter(shown.offer for one in answers for shown in one.decision.slate)
    return {
        "users": len(answers),
        "shown": sum(bool(one.decision.slate) for one in answers),
        "offers": dict(sorted(offers.items())),
        "nothing": _counts(rows, "why"),
        "sources": _counts(rows, "source"),
        "degraded": dict(sorted(Counter(what for one in answers for what in one.decision.degraded).items())),
        "held_out": sum(one.decision.holdout is not None for one in answers),
        "given_before": sum(not one.is_new for one in answers),
        "remade": sum(one.remade for one in answers),
    }


def _counts(rows: pa.Table, column: str) -> dict[str, int]:
    counts = Counter(value for value in rows.column(column).to_pylist() if value is not None)
    return dict(sorted(counts.items()))
