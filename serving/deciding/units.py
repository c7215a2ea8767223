"""Units of hard budgets: nothing that one covers is shown without a unit in hand."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from decisioning.domain import Decision, Facts, Request, Shown, Source, record
from serving.guarded.breaker import GuardedStore
from serving.runtime import Current
from stores.online.budgets import Want
from stores.online.units import Ledger

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
        wants = wanted(self.current.ledger, slate, self.request.now)
        return not wants or await self._short(wants) == {}

    async def decide(self, decide: Decide, facts: Facts) -> tuple[Decision, Facts]:
        """A decision with its units, and the facts it was made of."""
        decision = decide(self.current, self.request, facts)
        wants = wanted(self.current.ledger, decision.slate, self.request.now)
        return await self.secured(decide, decision, facts, wants)

    async def secured(
        self, decide: Decide, decision: Decision, facts: Facts, wants: tuple[Want, ...]
    ) -> tuple[Decision, Facts]:
        """The same, of a decision that wants these units.

        Where a unit has just gone to somebody else, the budget counts as spent and the decision is made again.
        """
        for left in reversed(range(ATTEMPTS)):
            if not wants or (short := await self._short(wants)) == {}:
                return decision, facts
            if short is None or not left:
                break
            facts = self.current.ledger.without(facts, short, self.request.now)
            decision = decide(self.current, self.request, facts)
            wants = wanted(self.current.ledger, decision.slate, self.request.now)
        facts = self.current.ledger.closed(facts)
        decision = decide(self.current, self.request, facts)
        if wanted(self.current.ledger, decision.slate, self.request.now):
            # A fallback below a hard budget, which no checked catalog has.
            decision = replace(decision, slate=(), source=Source.NONE)
        return decision, facts

    async def _short(self, wants: tuple[Want, ...]) -> Mapping[str, int] | None:
        """What is out of those budgets that have too few units; None: nobody knows."""
        lasts = self.lasts + REPORTED_WITHIN
        return await self.store.reserve(self.request.decision_id, wants, lasts, self.left())


def wanted(ledger: Ledger, slate: tuple[Shown, ...], now: float) -> tuple[Want, ...]:
    """The units without which a slate may not be shown: nearly always none."""
    scarce = ledger.scarce
    for one in slate:
        if one.offer in scarce:
            return ledger.wants([one.offer for one in slate], now)
    return ()
