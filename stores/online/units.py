"""What budgets ask of whoever shows an offer: which of them to read, which units to take, what each allows by now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from decisioning.catalog import Catalog
from decisioning.domain import Facts
from decisioning.limits import allowance, is_running
from decisioning.rules import Budget
from stores.online.budgets import Want

UNREAD = "budgets:unread"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The budgets of one catalog, looked up once."""

    budgets: Mapping[str, Budget]
    covers: Mapping[str, tuple[Budget, ...]]
    """By offer: the budgets that its impressions count towards."""
    read: Mapping[str, tuple[str, ...]]
    """By surface: the budgets that its offers need to know."""
    scarce: frozenset[str]
    """The offers that a hard budget covers: no other one needs a unit."""

    @classmethod
    def of(cls, catalog: Catalog) -> "Ledger":
        covers = {name: tuple(one for one in catalog.budgets if name in one.offers) for name in catalog.offers}
        read = {
            surface: tuple(sorted({one.name for offer in catalog.offers_on(surface) for one in covers[offer.name]}))
            for surface in catalog.surfaces
        }
        scarce = frozenset(name for name, covering in covers.items() if any(one.hard for one in covering))
        return cls({one.name: one for one in catalog.budgets}, covers, read, scarce)

    def spends(self, offer: str, at: float) -> tuple[str, ...]:
        """The budgets of which an impression of an offer at a moment takes one unit."""
        return tuple(one.name for one in self.covers.get(offer, ()) if is_running(one, at))

    def wants(self, offers: Iterable[str], now: float, *, soft: bool = False) -> tuple[Want, ...]:
        """The units of hard budgets without which these offers may not be shown; with `soft`, of all budgets."""
        return tuple(
            Want(one.name, offer, self.allowed(one.name, now))
            for offer in offers
            for one in self.covers.get(offer, ())
            if (one.hard or soft) and is_running(one, now)
        )

    def allowed(self, budget: str, now: float) -> int:
        """How many units of a budget may be out by now: one that is paced begins with its first, at once."""
        return ceil(allowance(self.budgets[budget], now))

    def without(self, facts: Facts, short: Mapping[str, int], now: float) -> Facts:
        """The facts after some budgets had too few units: what is out of each, or, where a slate wanted more than one
        unit and there is one, all that is allowed."""
        spent = {name: max(out, self.allowed(name, now)) for name, out in short.items()}
        return replace(facts, budgets={**facts.budgets, **spent})

    def closed(self, facts: Facts) -> Facts:
        """The facts as if no hard budget could be read."""
        known = {name: out for name, out in facts.budgets.items() if not self.budgets[name].hard}
        return replace(facts, budgets=known, degraded=(*facts.degraded, UNREAD))
