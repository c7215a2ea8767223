"""Units of hard budgets: nothing that one covers is shown without a unit in hand."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from decisioning.domain import Decision, Facts, Request, Shown, Source, record
from serving.breaker import GuardedStore
from serving.runtime import Current
from stores.online.budgets import Want

ATTEMPTS = 3
"""Decisions made anew because a unit had just gone, before every hard budget counts as closed for this request."""
REPORTED_WITHIN = 300.0
"""Seconds after an answer's end within which its impression is expected. Then its lease ends."""

Decide = Callable[[Current, Request, Facts], Decision]


@record
class Desk:
    """Where one request gets its units."""

    store: GuardedStore
    current: Current
    request: Request
    lasts: float
    """Seconds for which its answer may be shown."""
    left: Callable[[], float]
    """Seconds that the request may still wait."""

    async def holds(self, slate: tuple[Shown, ...]) -> bool:
        """Whether there is a unit for all that an answer shows. One that was taken before is not taken again."""
        wants = self._wants(slate)
        return not wants or await self._short(wants) == {}

    async def decide(self, decide: Decide, facts: Facts) -> tuple[Decision, Facts]:
        """A decision with its units, and the facts it was made of.

        Where a unit has just gone to somebody else, the budget counts as spent and the decision is made again.
        """
        for _ in range(ATTEMPTS):
            decision = decide(self.current, self.request, facts)
            wants = self._wants(decision.slate)
            if not wants or (short := await self._short(wants)) == {}:
                return decision, facts
            if short is None:
                break
            facts = self.current.ledger.without(facts, short, self.request.now)
        facts = self.current.ledger.closed(facts)
        decision = decide(self.current, self.request, facts)
        if self._wants(decision.slate):  # a fallback below a hard budget, which no checked catalog has
            decision = replace(decision, slate=(), source=Source.NONE)
        return decision, facts

    async def _short(self, wants: tuple[Want, ...]) -> Mapping[str, int] | None:
        """What is out of those budgets that have too few units; None: nobody knows."""
        lasts = self.lasts + REPORTED_WITHIN
        return await self.store.reserve(self.request.decision_id, wants, lasts, self.left())

    def _wants(self, slate: tuple[Shown, ...]) -> tuple[Want, ...]:
        ledger, offers = self.current.ledger, [one.offer for one in slate]
        return () if ledger.scarce.isdisjoint(offers) else ledger.wants(offers, self.request.now)
