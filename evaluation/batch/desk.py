"""Where the decisions of a batch are made: facts read for many users at once, units taken, answers remembered.

The same steps as serving takes for one request, in the same order, each of them for a group of users. No decision waits
for a deadline. And budgets are kept otherwise, as all is decided before the first impression is seen:

- soft ones like hard ones: a unit is taken for whatever is shown;
- a budget counts as it was when the run began, until a unit of it is refused; from then on it has nothing left for this
  part. So a part that is done again, when its units are taken already, comes to the same decisions.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from decisioning.domain import Decision, Facts, Request, Source, decided
from decisioning.engine import Release, decide
from decisioning.identity import sticky_until
from evaluation.batch.visits import Visit
from features.schema import Schema
from stores.online import sticky
from stores.online.port import OnlineStore
from stores.online.units import Ledger

AT_ONCE = 256
"""Users in a group."""

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
    """How often it was decided anew, as a unit was refused."""


@dataclass(slots=True)
class _Case:
    """One user on the way to an answer."""

    row: int
    visit: Visit
    facts: Facts
    before: bytes | None
    """The answer that is remembered for the same sticky decision."""
    decision: Decision | None = None
    is_new: bool = True
    remade: int = 0

    @property
    def answer(self) -> Answer:
        return Answer(self.visit, self.facts, self.decision, self.is_new, self.remade)


class Desk:
    """Decides for one surface of a release, for the users of one part.

    `budgets`: units out of each when the run began. `lease`: seconds for which units are reserved. `is_again`: the part
    may have been begun before, so that remembered answers and units in hand may be its own.
    """

    def __init__(
        self,
        release: Release,
        store: OnlineStore,
        surface: str,
        turn: Turn,
        *,
        budgets: Mapping[str, int],
        lease: float,
        is_again: bool,
    ) -> None:
        self._release, self._store, self._turn, self._lease, self._is_again = release, store, turn, lease, is_again
        self._plan, self._surface = release.plans[surface], release.catalog.surfaces[surface]
        self._schema, self._ledger = Schema.of(release.catalog.features), Ledger.of(release.catalog)
        self._budgets = dict(budgets)

    async def answers(self, visits: Sequence[Visit]) -> list[Answer]:
        """The answers, in the order of the visits; decisions that a cap counts are counted. Raises StoreDown."""
        found: list[Answer] = []
        for start in range(0, len(visits), AT_ONCE):
            found += await self._group(start, visits[start : start + AT_ONCE])
        return found

    async def _group(self, start: int, visits: Sequence[Visit]) -> list[Answer]:
        cases = list(await asyncio.gather(*(self._read(start + place, one) for place, one in enumerate(visits))))
        if self._surface.sticky and not self._is_again:
            await asyncio.gather(*map(self._give_again, cases))
        await self._decide_all([case for case in cases if case.decision is None])
        if self._surface.sticky:
            await asyncio.gather(*(self._remember(case) for case in cases if case.is_new))
        answers = [case.answer for case in cases]
        if self._plan.counts_decisions:
            events = [event for one in answers if one.is_new for event in decided(one.visit.request, one.decision)]
            await asyncio.gather(*map(self._store.apply, events))
        return answers

    async def _read(self, row: int, visit: Visit) -> _Case:
        """What is known of a user, and the answer that was given to the same sticky decision before."""
        request = visit.request
        read = self._store.read(request.user, self._schema, (), request.decision_id)
        if not self._surface.sticky:
            return _Case(row, visit, visit.facts(await read), None)
        stored, before = await asyncio.gather(read, self._store.recall(request.user, request.decision_id))
        return _Case(row, visit, visit.facts(stored), before)

    async def _give_again(self, case: _Case) -> None:
        """The answer given before, where it may be given once more and its units are in hand."""
        kept = self._kept(case, case.before)
        if kept is not None and not await self._short(case.visit.request, kept):
            case.decision, case.is_new = kept, False

    def _kept(self, case: _Case, before: bytes | None) -> Decision | None:
        return sticky.again(self._release, self._surface, case.visit.request, case.facts, before)

    async def _decide_all(self, cases: Sequence[_Case]) -> None:
        """Decisions with their units. Whoever is refused one is decided again, each time with one budget less."""
        for case in cases:
            known = {
                name: self._budgets[name] for name in self._ledger.read[self._surface.name] if name in self._budgets
            }
            case.facts = replace(case.facts, budgets=known)
        for _ in range(len(self._ledger.budgets) + 1):
            for case in cases:
                case.decision = self._decide(case)
            shorts = await asyncio.gather(*(self._short(case.visit.request, case.decision) for case in cases))
            refused = [(case, short) for case, short in zip(cases, shorts, strict=True) if short]
            for case, short in refused:
                case.facts = self._ledger.without(case.facts, short, case.visit.request.now)
                case.remade += 1
                self._budgets |= {name: case.facts.budgets[name] for name in short}
            cases = [case for case, _ in refused]
        for case in cases:  # a fallback below a budget, which no rule takes away
            case.decision = self._decide(case)
            if self._ledger.wants([one.offer for one in case.decision.slate], case.visit.request.now):
                case.decision = replace(case.decision, slate=(), source=Source.NONE)

    def _decide(self, case: _Case) -> Decision:
        self._turn(None if case.facts.fresh else case.row)
        return decide(self._release, case.visit.request, case.facts)

    async def _short(self, request: Request, decision: Decision) -> Mapping[str, int]:
        """Takes the units of what a decision shows: empty where all are in hand, else what is out of which budget."""
        wants = self._ledger.wants([one.offer for one in decision.slate], request.now, soft=True)
        return await self._store.reserve(request.decision_id, wants, self._lease) if wants else {}

    async def _remember(self, case: _Case) -> None:
        """Keeps an answer for the rest of its period. What a server answered first stands, unless it says the same.

        At a further attempt, what is remembered and says the same is this part's own: it is as new as it was.
        """
        request, own = case.visit.request, sticky.given(self._surface, case.visit.request, case.decision)
        if self._is_again and case.before == own:
            return
        if sticky.is_same(case.decision, case.before):
            case.is_new = False
            return
        given = self._kept(case, case.before) if self._is_again else None
        if given is None:
            lasts = sticky_until(request.now, self._surface.sticky) - request.now
            theirs = await self._store.remember(request.user, request.decision_id, own, lasts, case.before)
            given = None if self._is_again and theirs == own else self._kept(case, theirs)
        if given is not None:
            case.decision, case.is_new = given, False
