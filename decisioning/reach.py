"""What the events of a user's past bear on: which rules count a kind of event, for which of a surface's offers."""

from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from decisioning.catalog import Catalog, Offer
from decisioning.domain import EventType, Stage
from decisioning.rules import Cap, CapBy, Exclusive, Same, Scope, Suppression


class Rule(NamedTuple):
    stage: Stage
    position: int
    """Among the catalog's rules of that stage."""
    rule: Suppression | Exclusive | Cap
    covers: int
    """The offers that it may drop, as bits."""
    need: int
    """How many events it takes, …"""
    window: float
    """… each less than so many seconds old."""


class Tally(NamedTuple):
    """What is counted apart: the events for which a rule drops the same offers."""

    need: int
    """How many events it takes."""
    rule: int
    """The number of the rule."""
    bits: int
    """The offers that it drops then."""
    silence: Suppression | None
    """The rule, where enough events have to lie close to one another too."""


class Bearing(NamedTuple):
    """What one kind of event (a type, an offer, a surface) counts towards, by its age."""

    windows: tuple[float, ...]
    """The windows of the rules that it bears on, rising: they part its age into cells."""
    tallies: tuple[tuple[int, ...], ...]
    """For each cell, the numbers of the tallies that it adds to: none beyond the last window."""


class Reach:
    """Of the rules of one surface. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._surface = surface
        self._bits = {offer.name: 1 << position for position, offer in enumerate(offers)}
        self.groups: dict[str, int] = {}
        """The offers of each group."""
        for offer in offers:
            self.groups[offer.group] = self.groups.get(offer.group, 0) | self._bits[offer.name]
        self._counts_as = catalog.counts_as
        self._group_of = {name: offer.group for name, offer in catalog.offers.items()}
        self.rules = tuple(rule for rule in self._all_rules(catalog, offers) if rule.covers)
        """Those that may drop something, in the order of evaluation."""
        self.tallies: list[Tally] = []
        """What has been looked up so far."""
        self.numbers: dict[tuple[int, int], int] = {}
        """The number of a tally, by that of its rule and the offers that it drops."""

    def _all_rules(self, catalog: Catalog, offers: Sequence[Offer]) -> Iterator[Rule]:
        """In the order of evaluation."""

        def covered(scope: Scope) -> int:
            return sum(self._bits[o.name] for o in offers if scope.covers(o.name, o.group, self._surface))

        for position, silence in enumerate(catalog.suppressions):
            window = silence.lasts
            if silence.count > 1:  # the first of them may be older by what they lie apart; a second for the rounding
                window += (inf if silence.within is None else silence.within) + 1.0
            yield Rule(Stage.SUPPRESSED, position, silence, covered(silence.scope), silence.count, window)
        for position, exclusive in enumerate(catalog.exclusives):
            members = sum(bit for name, bit in self._bits.items() if name in exclusive.offers)
            yield Rule(Stage.EXCLUSIVE, position, exclusive, members, 1, exclusive.lasts)
        for position, cap in enumerate(catalog.caps):
            yield Rule(Stage.CAP, position, cap, covered(cap.scope), cap.max, cap.per)

    def look_up(self, kind: str, offer: str, surface: str) -> Bearing:
        """What an event of a type, an offer and a surface counts towards."""
        found = [(rule.window, n, self.bears_on(rule, kind, offer, surface)) for n, rule in enumerate(self.rules)]
        bearing = [(window, self._tally(n, bits)) for window, n, bits in found if bits]
        windows = sorted({window for window, _ in bearing})
        cells = [tuple(tally for window, tally in bearing if window >= least) for least in windows]
        return Bearing(tuple(windows), (*cells, ()))

    def _tally(self, n: int, bits: int) -> int:
        """Events add up where a rule drops the same offers for them: no two offers or groups have the same bits."""
        number = self.numbers.setdefault((n, bits), len(self.tallies))
        if number == len(self.tallies):
            need, rule = self.rules[n].need, self.rules[n].rule
            self.tallies.append(Tally(need, n, bits, rule if isinstance(rule, Suppression) and need > 1 else None))
        return number

    def bears_on(self, one: Rule, kind: str, offer: str, surface: str) -> int:
        """The offers that a rule drops for enough events of a kind; 0 where it overlooks them."""
        rule, group = one.rule, self._group_of.get(offer, "")
        match rule:
            case Suppression():
                counts = self._counts_as(rule.after, kind, offer)
                return self._reach(rule.same, offer, group) & one.covers if counts else 0
            case Exclusive():  # keeps all but itself away; two that were shown keep each other away
                shown = kind == EventType.IMPRESSION and offer in rule.offers
                return one.covers & ~self._bits.get(offer, 0) if shown else 0
        counts = self._counts_as(rule.counts, kind, offer) and rule.scope.covers(offer, group, surface)
        if not counts or (rule.by is CapBy.SURFACE and surface != self._surface):
            return 0
        return self._reach(rule.by, offer, group) & one.covers

    def _reach(self, by: Same | CapBy, offer: str, group: str) -> int:
        match by:
            case Same.OFFER | CapBy.OFFER:
                return self._bits.get(offer, 0)
            case Same.GROUP | CapBy.GROUP:
                return self.groups.get(group, 0)
        return (1 << len(self._bits)) - 1
