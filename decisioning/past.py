"""What a user's own past forbids: suppression, exclusivity and caps, settled in one pass over the events."""

from collections.abc import Sequence

from decisioning.catalog import Catalog, Offer
from decisioning.domain import DECISION, EventType, HistoryEvent, Stage
from decisioning.reach import Reach
from decisioning.rules import Cap, CapBy
from decisioning.slate import Room
from decisioning.tallies import Drop, tallies

_COUNTED_AS_SHOWN = (EventType.IMPRESSION, DECISION)


class Past:
    """The rules of one surface about a user's own past. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._reach = reach = Reach(catalog, surface, offers)
        self.tallies = tallies(reach)
        self.shut = tuple(rule.covers if rule.need == 0 else None for rule in reach.rules)
        """What caps that allow none at all drop, whatever was before."""
        self.closed = tuple(rule.covers if rule.stage is Stage.CAP else None for rule in reach.rules)
        """What those drop that could not be asked, where the past could not be read: all caps."""

    def drops(self, history: Sequence[HistoryEvent], now: float, *, unread: bool) -> list[Drop]:
        """What each rule drops, in the order of evaluation. A history that could not be read reaches every cap."""
        return self.tallies.drops(history, now, self.closed if unread else self.shut)

    def rooms(self, history: Sequence[HistoryEvent], now: float, slots: int) -> list[Room]:
        """What caps leave for the offers of one slate together, where that is less than its slots."""
        reach, added = self._reach, self.tallies.added(history, now)
        found: list[Room] = []
        for n, rule in enumerate(reach.rules):
            if isinstance(rule.rule, Cap) and rule.rule.by is not CapBy.OFFER and rule.rule.counts in _COUNTED_AS_SHOWN:
                keys = reach.groups.values() if rule.rule.by is CapBy.GROUP else [rule.covers]
                for bits in (key & rule.covers for key in keys):
                    left = rule.need - added.count(reach.numbers.get((n, bits), -1))
                    if bits and left < slots:
                        found.append((bits, left, rule.rule))
        return found

    def behind(self, stage: Stage, position: int, bit: int, history: Sequence[HistoryEvent]) -> list[HistoryEvent]:
        """The events that count towards a rule's dropping an offer, whatever their age."""
        reach = self._reach
        one = next(rule for rule in reach.rules if (rule.stage, rule.position) == (stage, position))
        return [event for event in history if reach.bears_on(one, event.type, event.offer, event.surface) & bit]
