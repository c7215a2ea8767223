"""Where the decisions of a batch are made: facts read for many users at once, units taken, answers remembered.

The same steps as serving takes for one request, in the same order. Two things differ. No decision waits for a deadline.
And soft budgets are kept like hard ones: in serving impressions come in while others are decided, in a batch all is
decided before the first is seen.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from decisioning.domain import DECISION, Decision, Event, Facts, Request, Source
from decisioning.engine import Release, decide
from decisioning.identity import sticky_until
from evaluation.batch.visits import Visit
from features.schema import Schema
from stores import sticky
from stores.online import OnlineStore
from stores.units import Ledger

AT_ONCE = 256
"""Users whose facts are asked for together."""

Turn = Callable[[int | None], None]
"""Told whose scores are wanted: a row of the visits, or None for somebody whose features are others by now."""


@dataclass(frozen=True, slots=True)
class Answer:
    visit: Visit
    facts: Facts
    decision: Decision
    is_new: bool
    """Not given before in the same sticky period: to be logged and counted."""
    remade: int = 0
    """How often it was decided anew, as a unit had just gone to somebody else."""


class Desk:
    """Decides for one surface of a release. `lease`: seconds for which units are reserved.

    `is_again`: an attempt to decide the same users may have been made before. Then remembered answers and units in hand
    may be its own.
    """

    def __init__(
        self, release: Release, store: OnlineStore, surface: str, turn: Turn, lease: float, *, is_again: bool
    ) -> None:
        self._release, self._store, self._turn, self._lease, self._is_again = release, store, turn, lease, is_again
        self._plan, self._surface = release.plans[surface], release.catalog.surfaces[surface]
        self._schema, self._ledger = Schema.of(release.catalog.features), Ledger.of(release.catalog)

    async def answers(self, visits: Sequence[Visit]) -> list[Answer]:
        """The answers, in the order of the visits; decisions that a cap counts are counted. Raises StoreDown."""
        found: list[Answer] = []
        for start in range(0, len(visits), AT_ONCE):
            some = enumerate(visits[start : start + AT_ONCE], start)
            found += await asyncio.gather(*(self._answer(row, visit) for row, visit in some))
        if self._plan.counts_decisions:
            await asyncio.gather(*(self._count(one) for one in found if one.is_new and one.decision.slate))
        return found

    async def _answer(self, row: int, visit: Visit) -> Answer:
        facts, before = await self._known(visit)
        kept = sticky.again(self._release, self._surface, visit.request, facts, before)
        if kept is not None and await self._short(visit.request, kept) == {}:
            return self._given(row, visit, facts, before, kept)
        decision, facts, remade = await self._with_units(row, visit.request, facts)
        is_own = self._is_own(visit.request, decision, before)
        if sticky.is_same(decision, before) and not is_own:
            return Answer(visit, facts, decision, is_new=False)
        if self._surface.sticky and not is_own:
            theirs = await self._remember(visit.request, decision, before)
            kept = sticky.again(self._release, self._surface, visit.request, facts, theirs)
            if kept is not None:
                return Answer(visit, facts, kept, is_new=False)
        return Answer(visit, facts, decision, is_new=True, remade=remade)

    def _given(self, row: int, visit: Visit, facts: Facts, before: bytes | None, kept: Decision) -> Answer:
        """An answer that was given before: by somebody else, or by the attempt that this one repeats."""
        if self._is_again:
            decision = self._decide(row, visit.request, facts)
            if self._is_own(visit.request, decision, before):
                return Answer(visit, facts, decision, is_new=True)
        return Answer(visit, facts, kept, is_new=False)

    def _is_own(self, request: Request, decision: Decision, before: bytes | None) -> bool:
        return self._is_again and before == sticky.given(self._surface, request, decision)

    async def _known(self, visit: Visit) -> tuple[Facts, bytes | None]:
        """The facts, and the answer that was given to the same sticky decision before."""
        request = visit.request
        read = self._store.read(request.user, self._schema, self._ledger.read[request.surface], request.decision_id)
        if not self._surface.sticky:
            return self._hopeful(visit.facts(await read), request.now), None
        stored, before = await asyncio.gather(read, self._store.recall(request.user, request.decision_id))
        return self._hopeful(visit.facts(stored), request.now), before

    def _hopeful(self, facts: Facts, now: float) -> Facts:
        """At a further attempt, a budget with nothing left counts as having one unit, which may be in hand already.

        Whether it is, the store says when the unit is taken.
        """
        if not self._is_again:
            return facts
        most = {name: max(0, self._ledger.allowed(name, now) - 1) for name in facts.budgets}
        return replace(facts, budgets={name: min(out, most[name]) for name, out in facts.budgets.items()})

    def _decide(self, row: int, request: Request, facts: Facts) -> Decision:
        self._turn(None if facts.fresh else row)
        return decide(self._release, request, facts)

    async def _with_units(self, row: int, request: Request, facts: Facts) -> tuple[Decision, Facts, int]:
        """A decision with its units, the facts that it was made of, and how often it was made anew.

        Each further time one budget more counts as spent, so that it ends.
        """
        for times in range(len(self._ledger.budgets) + 1):
            decision = self._decide(row, request, facts)
            short = await self._short(request, decision)
            if not short:
                return decision, facts, times
            facts = self._ledger.without(facts, short, request.now)
        decision = self._decide(row, request, facts)
        if self._ledger.wants([one.offer for one in decision.slate], request.now):
            decision = replace(decision, slate=(), source=Source.NONE)  # a fallback below a hard budget
        return decision, facts, times + 1

    async def _short(self, request: Request, decision: Decision) -> dict[str, int]:
        """Takes the units of what a decision shows: empty where all are in hand, else what is out of which budget."""
        wants = self._ledger.wants([one.offer for one in decision.slate], request.now, soft=True)
        return dict(await self._store.reserve(request.decision_id, wants, self._lease)) if wants else {}

    async def _remember(self, request: Request, decision: Decision, before: bytes | None) -> bytes | None:
        """Keeps the answer for the rest of the period; the one that a server gave meanwhile, where it did."""
        lasts = sticky_until(request.now, self._surface.sticky) - request.now
        answer = sticky.given(self._surface, request, decision)
        return await self._store.remember(request.user, request.decision_id, answer, lasts, before)

    async def _count(self, answer: Answer) -> None:
        """Records what was decided in the user's history, where a cap counts that. Twice is once."""
        for event in decided(answer.visit.request, answer.decision):
            await self._store.apply(event)


def decided(request: Request, decision: Decision) -> list[Event]:
    """The events by which caps know what was decided."""
    return [
        Event(
            event_id=f"{DECISION}:{request.decision_id}:{one.slot}",
            type=DECISION,
            decision_id=request.decision_id,
            offer=one.offer,
            user=request.user,
            surface=request.surface,
            at=request.now,
        )
        for one in decision.slate
    ]
