"""The events of a user's past, counted: which rules drop which offers for them.

What an event bears on hangs on its type, offer and surface alone, so that is looked up once and remembered. History may
come in any order and with the clocks of many devices: nothing here relies on its order, and an event from the future
counts as one of now. Windows roll, to the second: an event counts while it is less than a rule's window old.

`Tallies` says what is right. The extension `_tallies.c` does the same in a tenth of the time, with what it learned from
here; what is not of the usual types, or one kind of event too many, it leaves to this one.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol

from decisioning.domain import HistoryEvent, Stage
from decisioning.native import native
from decisioning.reach import Bearing, Reach
from decisioning.rules import Suppression

Drop = tuple[Stage, int, int]
"""The stage, the position of the rule among the catalog's rules of that stage, and the offers it drops as bits."""

MEMO_LIMIT = 16_384
"""How many kinds of events are remembered; beyond that they are looked up anew."""

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""


class Counting(Protocol):
    def drops(self, history: Sequence[HistoryEvent], now: float, shut: Sequence[int | None]) -> list[Drop]:
        """What each rule drops, in the order of evaluation; `shut`: what each drops anyway, if anything."""
        ...

    def added(self, history: Sequence[HistoryEvent], now: float) -> list[int]:
        """The numbers of the tallies that the events add to, each as often as they do."""
        ...


class Tallies:
    def __init__(self, reach: Reach) -> None:
        self.rules, self.tallies, self.look_up = reach.rules, reach.tallies, reach.look_up
        self._bearings = _Bearings(reach.look_up)

    def drops(self, history: Sequence[HistoryEvent], now: float, shut: Sequence[int | None]) -> list[Drop]:
        added = self.added(history, now)
        masks = {n: bits for n, bits in enumerate(shut) if bits is not None}
        for number in set(added):
            tally = self.tallies[number]
            if added.count(number) >= tally.need and self._is_silent(number, history, now):
                masks[tally.rule] = masks.get(tally.rule, 0) | tally.bits
        return [(self.rules[n].stage, self.rules[n].position, masks[n]) for n in sorted(masks)]

    def added(self, history: Sequence[HistoryEvent], now: float) -> list[int]:
        added: list[int] = []
        for event in history:
            windows, tallies = self._bearings[event.type, event.offer, event.surface]
            added += tallies[bisect_right(windows, now - event.at)]
        return added

    def _is_silent(self, number: int, history: Sequence[HistoryEvent], now: float) -> bool:
        """Whether enough events are enough: always, but for a suppression that wants them close to one another."""
        silence = self.tallies[number].silence
        if silence is None:
            return True
        times = [
            min(event.at, now)
            for event in history
            if number in self._bearings[event.type, event.offer, event.surface].tallies[0]
        ]
        until = silent_until(sorted(times), silence)
        return until is not None and until > now


class _Bearings(dict[tuple[str, str, str], Bearing]):
    """From the type, offer and surface of an event to its bearing; a bounded number of them is remembered."""

    def __init__(self, look_up: Callable[[str, str, str], Bearing]) -> None:
        super().__init__()
        self._look_up = look_up

    def __missing__(self, kind: tuple[str, str, str]) -> Bearing:
        found = self._look_up(*kind)
        if len(self) < MEMO_LIMIT:
            self[kind] = found
        return found


def silent_until(times: Sequence[float], rule: Suppression) -> float | None:
    """When the silence of a suppression ends, given the sorted moments of its events; None where none began.

    A silence begins with each event that is the `count`-th within `within` seconds.
    """
    for last in range(len(times) - 1, rule.count - 2, -1):
        if rule.within is None or times[last] - times[last - rule.count + 1] <= rule.within:
            return times[last] + rule.lasts
    return None


def tallies(reach: Reach) -> Counting:
    """By the extension, where there is one."""
    by_python = Tallies(reach)
    found = native("decisioning._tallies", VERSION)
    return by_python if found is None else found.Tallies(by_python, HistoryEvent, MEMO_LIMIT)
