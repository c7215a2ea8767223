"""The slots of a surface: who fills them, and how likely each was to hold what it holds."""

from collections.abc import Iterable, Mapping, Sequence

from decisioning.catalog import Catalog, Offer, Surface
from decisioning.domain import NOTHING, Policy
from decisioning.rules import Cap, Exclusive

Ranked = Sequence[tuple[str, float]]
"""(offer, score), best first."""
Room = tuple[int, int, Cap | Exclusive | None]
"""Some offers as bits, how many of them a slate may hold, and the rule that says so: None for the group limit."""
Kind = tuple[int, ...]
"""The numbers of the rooms that an offer is in: two of a kind leave room for the same others."""


class Slots:
    """How a surface's slots are filled: greedily by rank, as far as there is room.

    The surface's group limit, the catalog's exclusivity, and what caps still allow are alike: each lets a slate hold so
    many of some offers. `offers` are the surface's: bit i stands for the i-th.
    """

    def __init__(self, catalog: Catalog, surface: Surface, offers: Iterable[Offer]) -> None:
        self._surface = surface
        self._bits: dict[str, int] = {}
        groups: dict[str, int] = {}
        for position, offer in enumerate(offers):
            self._bits[offer.name] = 1 << position
            groups[offer.group] = groups.get(offer.group, 0) | 1 << position
        self._rooms: list[Room] = []
        if surface.max_per_group is not None:
            self._rooms += [(group, surface.max_per_group, None) for group in groups.values()]
        for rule in catalog.exclusives:
            self._rooms.append((sum(bit for name, bit in self._bits.items() if name in rule.offers), 1, rule))
        self._kinds = {name: _numbers(self._rooms, bit) for name, bit in self._bits.items()}

    def company(self, ranked: Ranked, slots: int, rooms: Sequence[Room] = ()) -> "Company":
        """What fills the slots for one request; `rooms` are those that hang on the user."""
        kinds: Mapping[str, Kind] = self._kinds
        if rooms:
            bits, first = self._bits, len(self._rooms)
            kinds = {name: self._kinds[name] + _numbers(rooms, bits[name], first) for name, _ in ranked}
        return Company(self._surface, ranked, slots, [*self._rooms, *rooms], kinds)


def _numbers(rooms: Sequence[Room], bit: int, first: int = 0) -> Kind:
    """The numbers of the rooms that an offer is in."""
    return tuple([n for n, (bits, _, _) in enumerate(rooms, first) if bits & bit])


class Company:
    """The offers of one request, on their way into slots."""

    def __init__(
        self, surface: Surface, ranked: Ranked, slots: int, rooms: Sequence[Room], kinds: Mapping[str, Kind]
    ) -> None:
        self._may_be_empty, self.slots = surface.allow_nothing, slots
        self._ranked, self._rooms, self._kinds = ranked, rooms, kinds

    def slate(self, first: str) -> list[str]:
        """The slate that starts with `first`."""
        return [first, *self._beside(self._kinds[first], without=first)]

    def rival(self, name: str, slate: Sequence[str]) -> tuple[str, Room | None] | None:
        """Who fills what an offer would need that is not in a slate: the last of a room that it is in, or of the slots.

        None where nobody does: then it is worth no more than nothing.
        """
        left = [most for _, most, _ in self._rooms]
        for taken, other in enumerate(slate, start=1):
            for n in self._kinds[other]:
                left[n] -= 1
            full = next((self._rooms[n] for n in self._kinds[name] if left[n] <= 0), None)
            if full is not None or taken == self.slots:
                return other, full
        return None

    def odds(self, slate: Sequence[str], policy: Policy) -> list[int]:
        """The chance per million that each slot of a slate had of holding what it holds. Only slot 1 explores.

        What the draw puts into slot 1 changes the others only by the rooms that it is in; or by its absence, where it
        would be among them. So there are few slates to fill, however many offers may come first.
        """
        odds = [policy.weight(slate[0]), *[0] * (len(slate) - 1)]
        beside: dict[Kind, list[str]] = {}
        weights: dict[Kind, int] = {}

        def count(others: Sequence[str], weight: int) -> None:
            for slot, (ours, theirs) in enumerate(zip(slate[1:], others, strict=False), start=1):
                odds[slot] += weight if ours == theirs else 0

        for action, weight in zip(policy.offers, policy.weights, strict=True):
            if not weight or action == NOTHING:
                continue
            kind = self._kinds[action]
            if kind not in beside:
                beside[kind] = self._beside(kind)
            if action in beside[kind]:
                count(self._beside(kind, without=action), weight)
            else:
                weights[kind] = weights.get(kind, 0) + weight
        for kind, weight in weights.items():
            count(beside[kind], weight)
        return odds

    def _beside(self, first: Kind, without: str = "") -> list[str]:
        """What fills the slots beside an offer of a kind.

        Where the surface may show nothing, an offer that is worth no more than nothing fills no further slot.
        """
        left = [most for _, most, _ in self._rooms]
        for n in first:
            left[n] -= 1
        found: list[str] = []
        for name, worth in self._ranked:
            if len(found) == self.slots - 1:
                break
            if name == without or (worth <= 0 and self._may_be_empty):
                continue
            kind = self._kinds[name]
            if all(left[n] > 0 for n in kind):
                found.append(name)
                for n in kind:
                    left[n] -= 1
        return found
