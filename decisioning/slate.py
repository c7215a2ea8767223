"""The slots of a surface: who fills them, and how likely each was to hold what it holds."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from decisioning.catalog import Catalog, Offer, Surface
from decisioning.domain import NOTHING, Policy

Ranked = Sequence[tuple[str, float]]
"""(offer, score), best first."""


class _Kind(NamedTuple):
    """What bears on the company of an offer: two of a kind leave room for the same others."""

    group: str
    """"" where the surface sets groups no limit."""
    exclusives: frozenset[int]


class Slots:
    """How a surface's slots are filled: greedily by rank, under its group limit and the catalog's exclusivity."""

    def __init__(self, catalog: Catalog, surface: Surface, offers: Iterable[Offer]) -> None:
        self._surface = surface
        self._kinds = {
            offer.name: _Kind(
                offer.group if surface.max_per_group is not None else "",
                frozenset(n for n, rule in enumerate(catalog.exclusives) if offer.name in rule.offers),
            )
            for offer in offers
        }

    def fill(self, ranked: Ranked, slots: int, first: str) -> list[str]:
        """The slate that starts with `first`."""
        return [first, *self._beside(self._kinds[first], ranked, slots - 1, without=first)]

    def odds(self, ranked: Ranked, slots: int, slate: Sequence[str], policy: Policy) -> list[int]:
        """The chance per million that each slot of a slate had of holding what it holds. Only slot 1 explores.

        What the draw puts into slot 1 changes the others only by its kind; or by its absence, where it would be among
        them. So there are few slates to fill, however many offers may come first.
        """
        odds = [policy.weight(slate[0]), *[0] * (len(slate) - 1)]
        beside: dict[_Kind, list[str]] = {}
        weights: dict[_Kind, int] = {}

        def count(others: Sequence[str], weight: int) -> None:
            for slot, (ours, theirs) in enumerate(zip(slate[1:], others, strict=False), start=1):
                odds[slot] += weight if ours == theirs else 0

        for action, weight in zip(policy.offers, policy.weights, strict=True):
            if not weight or action == NOTHING:
                continue
            kind = self._kinds[action]
            if kind not in beside:
                beside[kind] = self._beside(kind, ranked, slots - 1)
            if action in beside[kind]:
                count(self._beside(kind, ranked, slots - 1, without=action), weight)
            else:
                weights[kind] = weights.get(kind, 0) + weight
        for kind, weight in weights.items():
            count(beside[kind], weight)
        return odds

    def _beside(self, first: _Kind, ranked: Ranked, slots: int, without: str = "") -> list[str]:
        """What fills the slots beside an offer of a kind.

        Where the surface may show nothing, an offer that is worth no more than nothing fills no further slot.
        """
        most, groups, exclusives = self._surface.max_per_group, [first.group], first.exclusives
        found: list[str] = []
        for name, worth in ranked:
            if len(found) == slots:
                break
            if name == without or (worth <= 0 and self._surface.allow_nothing):
                continue
            kind = self._kinds[name]
            if (most is None or groups.count(kind.group) < most) and exclusives.isdisjoint(kind.exclusives):
                found.append(name)
                groups.append(kind.group)
                exclusives |= kind.exclusives
        return found
