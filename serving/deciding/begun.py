"""A request for a decision that was read: what every way to its answer begins with, and the shortest way."""

from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from time import perf_counter
from typing import Any

import msgspec

from decisioning.catalog import Catalog, Surface
from decisioning.domain import Decision, Facts, Request, Rung
from decisioning.identity import sticky_until
from serving.access import ANYBODY, Caller
from serving.deciding import safely
from serving.deciding.answers import encoded
from serving.deciding.requests import requested
from serving.deciding.shedding import shed
from serving.deciding.units import Decide, Desk, wanted
from serving.errors import ApiError, invalid
from serving.pressure import rung
from serving.runtime import Current, Runtime
from serving.schemas import DecisionRequest, read_decision
from stores.api_keys import EXPLAIN
from stores.log.decision_log import CHALLENGER, DecisionRecord
from stores.online.budgets import Want

SHORTEST_WAIT, LONGEST_WAIT = 0.005, 0.050
"""The bounds, in seconds, of what a deadline leaves for each question to the store; a deadline may be shorter still."""
STALE = "features:stale"
"""A value that was read is older than its `max_age`, and counts as missing."""
FRESH_FOR = 300.0
"""Seconds for which an answer may be kept where the surface has no sticky period."""

DRY_RUN, STICKY = "dry_run", "sticky"


class Made(msgspec.Struct, frozen=True):
    """A decision, as far as the client is concerned: what is left to do is to write it down."""

    answer: bytes
    decision: Decision
    facts: Facts
    """What it was made of."""
    now: float
    """The moment that it was made for, in epoch seconds."""
    record: DecisionRecord | None
    """For the log; None where it is no new decision."""
    repeated: str | None
    """Why it is no new decision: `DRY_RUN`, or `STICKY` for an answer that was given before."""


class Begun(msgspec.Struct, eq=False):
    """A request that was read, with the one release and the one moment for its whole decision."""

    runtime: Runtime
    current: Current
    sent: DecisionRequest
    surface: Surface
    request: Request
    admitted: tuple[str, ...]
    """What its answer admits."""
    started: float
    """When work on it began, by `perf_counter`; so `parsed`, when it was read, and `until`, when it is due."""
    parsed: float
    until: float
    budget: float
    """Seconds for all of it, since it came in."""
    age: float
    step: Rung

    def is_plain(self) -> bool:
        """Whether the user's facts are all that is asked for: then these make the decision `at_once`."""
        sent, current, surface = self.sent, self.current, self.surface
        return not (
            surface.sticky
            or sent.dry_run
            or sent.explain
            or self.step is Rung.FALLBACK
            or current.release.plans[surface.name].counts_decisions
        )

    def left(self) -> float:
        """Seconds for one question to the store: what is left of the budget, within bounds."""
        return min(max(self.until - perf_counter(), min(SHORTEST_WAIT, self.budget)), LONGEST_WAIT)

    def ask(self) -> Awaitable[Facts]:
        """The user's facts, on their way."""
        current = self.current
        budgets = current.ledger.read[self.surface.name]
        return self.runtime.store.read(self.request.user, current.schema, budgets, self.left())

    def at_once(self, facts: Facts) -> "Made | Coroutine[Any, Any, Made]":
        """The plain decision; on its way yet where what it shows needs units of hard budgets."""
        self.wait_over()
        facts = self.admitting(facts)
        read, (choose, scoring) = perf_counter(), self.choice()
        facts = shed(self.current, self.request, facts, self.step)
        decision = choose(self.current, self.request, facts)
        if wants := wanted(self.current.ledger, decision.slate, self.request.now):
            return self.secured(choose, decision, facts, wants, read, scoring)
        return self.made(decision, facts, read, scoring)

    async def secured(
        self,
        choose: Decide,
        decision: Decision,
        facts: Facts,
        wants: tuple[Want, ...],
        read: float,
        scoring: list[float],
    ) -> Made:
        """The same with its units."""
        decision, facts = await self.desk().secured(choose, decision, facts, wants)
        return self.made(decision, facts, read, scoring)

    def made(self, decision: Decision, facts: Facts, read: float, scoring: list[float]) -> Made:
        record = self.record(facts, decision, read, scoring)
        return Made(encoded(decision, self.expires(), None), decision, facts, self.request.now, record, None)

    def desk(self) -> Desk:
        """Where its units of hard budgets come from."""
        lasts = self.expires() - self.request.now
        return Desk(self.runtime.store, self.current, self.request, lasts, self.left)

    def wait_over(self) -> None:
        """The store has answered. What came meanwhile is not the store's time: a slow one makes no model dearer."""
        behind = self.runtime.pressure.behind()
        if behind > self.age:
            self.age, self.step = behind, rung(behind, self.budget, is_read=True)

    def admitting(self, facts: Facts) -> Facts:
        """The facts with all that the answer admits."""
        admitted = self.admitted
        if self.current.release.knowledge.is_stale(facts, self.request.now):
            admitted = (*admitted, STALE)
        return replace(facts, degraded=(*facts.degraded, *admitted)) if admitted else facts

    def choice(self) -> tuple[Decide, list[float]]:
        """How a decision is chosen, and where the seconds of its challengers will be."""
        scoring: list[float] = []
        return (safely.decide if self.current.watch is None else safely.timed(scoring)), scoring

    def expires(self) -> float:
        """Until when the answer may be shown, in epoch seconds."""
        now, period = self.request.now, self.surface.sticky
        return sticky_until(now, period) if period else now + FRESH_FOR

    def record(self, facts: Facts, decision: Decision, read: float, scoring: list[float]) -> DecisionRecord:
        """For the log. `read`: when the facts were there, by `perf_counter`."""
        durations = {
            "parse": self.parsed - self.started,
            "read": read - self.parsed,
            "decide": perf_counter() - read,
        }
        if scoring:
            durations[CHALLENGER] = sum(scoring)  # a part of `decide`
        return DecisionRecord(self.request, facts, decision, durations)


def begin(
    runtime: Runtime,
    body: bytes,
    caller: Caller = ANYBODY,
    patience: float | None = None,
    arrived: float | None = None,
) -> Begun:
    """Reads a request. Raises ApiError for one that is not valid, or not the caller's to make.

    `patience`: the seconds that the client waits, where these are fewer than the surface's deadline. `arrived`: when
    the request came in, by `perf_counter`.
    """
    started = perf_counter()
    sent = read_decision(body)
    if sent.explain or sent.dry_run:
        caller.require(EXPLAIN)
    current, now = runtime.current, runtime.clock()
    surface = current.release.catalog.surfaces.get(sent.surface)
    if surface is None or (sent.slots is not None and sent.slots > surface.slots):
        raise _unfit(current.release.catalog, surface)
    request, admitted = requested(runtime.secret, current.contexts, surface, sent, now, runtime.fresh)
    parsed = perf_counter()
    budget = surface.deadline if patience is None else min(patience, surface.deadline)
    until = (arrived or started) + budget
    age = max(0.0 if arrived is None else started - arrived, runtime.pressure.behind())
    step = rung(age, budget)
    return Begun(runtime, current, sent, surface, request, admitted, started, parsed, until, budget, age, step)


def _unfit(catalog: Catalog, surface: Surface | None) -> ApiError:
    """What is wrong with a request's surface, or with how many slots of it are asked for."""
    if surface is None:
        known = ", ".join(sorted(catalog.surfaces)) or "none, as no release is loaded"
        return ApiError(404, "unknown_surface", f"There is no such surface. The known ones: {known}.", "surface")
    return invalid("slots", f"The field slots is wrong: this surface has {surface.slots}.")
