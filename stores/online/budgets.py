"""The port of budgets: units that all servers share, and that no race hands out twice.

A decision that is about to show an offer of a hard budget takes a unit of it on lease. The impression confirms the
lease; one that nobody confirms ends by itself and its unit is free again. Who holds a unit is the decision with the
offer: however often either is asked for or reported while the lease lasts, it is one unit. An impression without a
lease (of a soft budget, or one that comes after its lease has ended) is counted as what it is: one more unit spent.

So the units handed out never exceed a budget, and what is shown exceeds it only by impressions that come later than
their lease allows. Those stop the budget sooner: they are spent, and no one else gets their units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Want:
    """A unit of one hard budget, for one offer of a decision."""

    budget: str
    offer: str
    allowed: int
    """How many units of the budget may be out by now, this one included."""


class Budgets(Protocol):
    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, *, timeout: float | None = None
    ) -> Mapping[str, int]:
        """Takes a unit on lease for each of `wants`, for `lasts` seconds: all of them, or none.

        Returns the budgets that had too few left, each with the units that are out; empty when all were taken. A
        decision that already holds a unit for an offer, confirmed or not, keeps it and needs no other. Raises
        StoreDown when nobody can tell; some may have been taken then, and their leases end by themselves.
        """
        ...


def holder(decision_id: str, offer: str) -> str:
    """Who holds a unit. Names of offers have no bar in them, so no two holders are alike."""
    return f"{decision_id}|{offer}"


@dataclass
class MemoryBudgets:
    """The twin in memory, one process. `clock` gives seconds."""

    clock: Callable[[], float]
    _spent: dict[str, int] = field(default_factory=dict)
    _leases: dict[str, dict[str, float]] = field(default_factory=dict)
    """By budget: when the lease of each holder ends."""
    _confirmed: dict[str, dict[str, float]] = field(default_factory=dict)
    """By budget: holders whose unit is spent, for as long as their lease would have lasted."""

    def out(self, budget: str) -> int:
        """Units that are spent or on lease."""
        return self._spent.get(budget, 0) + len(self._alive(self._leases, budget))

    async def reserve(self, decision_id: str, wants: Sequence[Want], lasts: float) -> dict[str, int]:
        taken: dict[str, list[str]] = {}
        short = {}
        for want in wants:
            who, mine = holder(decision_id, want.offer), taken.setdefault(want.budget, [])
            if who in self._alive(self._leases, want.budget) or who in self._alive(self._confirmed, want.budget):
                continue
            if self.out(want.budget) + len(mine) < want.allowed:
                mine.append(who)
            else:
                short[want.budget] = self.out(want.budget)
        if not short:
            for budget, holders in taken.items():
                self._leases[budget].update(dict.fromkeys(holders, self.clock() + lasts))
        return short

    def count(self, budget: str, decision_id: str, offer: str) -> None:
        """One impression: it confirms a lease, or is that of a confirmed one again, or else spends a unit."""
        who = holder(decision_id, offer)
        leases, confirmed = self._alive(self._leases, budget), self._alive(self._confirmed, budget)
        if who in confirmed:
            return
        self._spent[budget] = self._spent.get(budget, 0) + 1
        if who in leases:
            confirmed[who] = leases.pop(who)

    def _alive(self, ends: dict[str, dict[str, float]], budget: str) -> dict[str, float]:
        now, of = self.clock(), ends.setdefault(budget, {})
        for who in [one for one, end in of.items() if end <= now]:
            del of[who]
        return of
