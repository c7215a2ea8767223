"""What a user's own past forbids: suppression, exclusivity and caps, settled in one pass over the events.

What an event bears on hangs on its type, offer and surface alone, so that is looked up once and remembered. History may
come in any order and with the clocks of many devices: nothing here relies on its order, and an event from the future
counts as one of now. Windows roll, to the second: an event counts while it is less than a rule's window old.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple
from weakref import WeakMethod

from decisioning.catalog import Cap, CapBy, Catalog, Exclusive, Offer, Same, Scope, Suppression
from decisioning.domain import DECISION, EventType, HistoryEvent, Stage
from decisioning.slate import Room

Drop = tuple[Stage, int, int]
"""The stage, the position of the rule among the catalog's rules of that stage, and the offers it drops as bits."""

_COUNTED_AS_SHOWN = (EventType.IMPRESSION, DECISION)

MEMO_LIMIT = 16_384
"""How many kinds of events are remembered; beyond that they are looked up anew."""


class _Rule(NamedTuple):
    stage: Stage
    position: int
    rule: Suppression | Exclusive | Cap
    covers: int
    """The offers that it may drop."""
    need: int
    """How many events it takes, …"""
    window: float
    """… each less than so many seconds old."""


class _Bearing(NamedTuple):
    """What one kind of event (a type, an offer, a surface) counts towards, by its age."""

    windows: tuple[float, ...]
    """The windows of the rules that it bears on, rising: they part its age into cells."""
    tallies: tuple[tuple[int, ...], ...]
    """For each cell, the numbers of the tallies that it adds to: none beyond the last window."""


class _Bearings(dict[tuple[str, str, str], _Bearing]):
    """From the type, offer and surface of an event to its bearing; a bounded number of them is remembered."""

    def __init__(self, look_up: Callable[[str, str, str], _Bearing]) -> None:
        super().__init__()
        self._look_up = WeakMethod(look_up)  # no cycle: what is let go is free at once

    def __missing__(self, kind: tuple[str, str, str]) -> _Bearing:
        look_up = self._look_up()
        assert look_up is not None, "it belongs to a Past that is gone"
        found = look_up(*kind)
        if len(self) < MEMO_LIMIT:
            self[kind] = found
        return found


class Past:
    """The rules of one surface about a user's own past. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._surface = surface
        self._bits = {offer.name: 1 << position for position, offer in enumerate(offers)}
        self._groups: dict[str, int] = {}
        for offer in offers:
            self._groups[offer.group] = self._groups.get(offer.group, 0) | self._bits[offer.name]
        self._counts_as = catalog.counts_as
        self._group_of = {name: offer.group for name, offer in catalog.offers.items()}
        self._rules = tuple(rule for rule in self._all_rules(catalog, offers) if rule.covers)
        self._shut = {n: rule.covers for n, rule in enumerate(self._rules) if rule.need == 0}
        """What caps that allow none at all drop, whatever was before."""
        self._tallies: list[tuple[int, int, int]] = []
        """What is counted apart: how many events it takes, the number of a rule, and the offers that it drops then."""
        self._numbers: dict[tuple[int, int], int] = {}
        self._bearings = _Bearings(self._look_up)

    def _all_rules(self, catalog: Catalog, offers: Sequence[Offer]) -> Iterator[_Rule]:
        """In the order of evaluation."""

        def covered(scope: Scope) -> int:
            return sum(self._bits[o.name] for o in offers if scope.covers(o.name, o.group, self._surface))

        for position, silence in enumerate(catalog.suppressions):
            window = silence.lasts
            if silence.count > 1:  # the first of them may be older by what they lie apart; a second for the rounding
                window += (inf if silence.within is None else silence.within) + 1.0
            yield _Rule(Stage.SUPPRESSED, position, silence, covered(silence.scope), silence.count, window)
        for position, exclusive in enumerate(catalog.exclusives):
            members = sum(bit for name, bit in self._bits.items() if name in exclusive.offers)
            yield _Rule(Stage.EXCLUSIVE, position, exclusive, members, 1, exclusive.lasts)
        for position, cap in enumerate(catalog.caps):
            yield _Rule(Stage.CAP, position, cap, covered(cap.scope), cap.max, cap.per)

    def drops(self, history: Sequence[HistoryEvent], now: float, *, unread: bool) -> list[Drop]:
        """What each rule drops, in the order of evaluation. A history that could not be read reaches every cap."""
        added = self._added(history, now)
        masks = self._shut.copy()
        if unread:
            masks = {n: rule.covers for n, rule in enumerate(self._rules) if rule.stage is Stage.CAP}
        for tally in set(added):
            need, n, bits = self._tallies[tally]
            if added.count(tally) >= need and (need == 1 or self._applies(self._rules[n].rule, tally, history, now)):
                masks[n] = masks.get(n, 0) | bits
        return [(self._rules[n].stage, self._rules[n].position, masks[n]) for n in sorted(masks)]

    def _added(self, history: Sequence[HistoryEvent], now: float) -> list[int]:
        """The tallies that the events add to, each as often as they do."""
        added: list[int] = []
        for event in history:
            windows, tallies = self._bearings[event.type, event.offer, event.surface]
            added += tallies[bisect_right(windows, now - event.at)]
        return added

    def rooms(self, history: Sequence[HistoryEvent], now: float, slots: int) -> list[Room]:
        """What caps leave for the offers of one slate together, where that is less than its slots."""
        added = self._added(history, now)
        found: list[Room] = []
        for n, rule in enumerate(self._rules):
            if isinstance(rule.rule, Cap) and rule.rule.by is not CapBy.OFFER and rule.rule.counts in _COUNTED_AS_SHOWN:
                keys = self._groups.values() if rule.rule.by is CapBy.GROUP else [rule.covers]
                for bits in (key & rule.covers for key in keys):
                    left = rule.need - added.count(self._numbers.get((n, bits), -1))
                    if bits and left < slots:
                        found.append((bits, left, rule.rule))
        return found

    def _applies(
        self, rule: Suppression | Exclusive | Cap, tally: int, history: Sequence[HistoryEvent], now: float
    ) -> bool:
        """Whether enough events are enough: always, but for a suppression that wants them close to one another."""
        if not isinstance(rule, Suppression):
            return True
        times = [
            min(event.at, now)
            for event in history
            if tally in self._bearings[event.type, event.offer, event.surface].tallies[0]
        ]
        until = silent_until(sorted(times), rule)
        return until is not None and until > now

    def behind(self, stage: Stage, position: int, bit: int, history: Sequence[HistoryEvent]) -> list[HistoryEvent]:
        """The events that count towards a rule's dropping an offer, whatever their age."""
        one = next(rule for rule in self._rules if (rule.stage, rule.position) == (stage, position))
        return [event for event in history if self._bears_on(one, event.type, event.offer, event.surface) & bit]

    def _look_up(self, kind: str, offer: str, surface: str) -> _Bearing:
        found = [(rule.window, n, self._bears_on(rule, kind, offer, surface)) for n, rule in enumerate(self._rules)]
        bearing = [(window, self._tally(n, bits)) for window, n, bits in found if bits]
        windows = sorted({window for window, _ in bearing})
        cells = [tuple(tally for window, tally in bearing if window >= least) for least in windows]
        return _Bearing(tuple(windows), (*cells, ()))

    def _tally(self, n: int, bits: int) -> int:
        """Events add up where a rule drops the same offers for them: no two offers or groups have the same bits."""
        number = self._numbers.setdefault((n, bits), len(self._tallies))
        if number == len(self._tallies):
            self._tallies.append((self._rules[n].need, n, bits))
        return number

    def _bears_on(self, one: _Rule, kind: str, offer: str, surface: str) -> int:
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
                return self._groups.get(group, 0)
        return (1 << len(self._bits)) - 1


def silent_until(times: Sequence[float], rule: Suppression) -> float | None:
    """When the silence of a suppression ends, given the sorted moments of its events; None where none began.

    A silence begins with each event that is the `count`-th within `within` seconds.
    """
    for last in range(len(times) - 1, rule.count - 2, -1):
        if rule.within is None or times[last] - times[last - rule.count + 1] <= rule.within:
            return times[last] + rule.lasts
    return None
