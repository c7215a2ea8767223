"""How fast a client may ask: one limit for all its keys and all workers of a server.

Each worker counts what it let through itself, in shared memory, and adds up what all of them did: no lock, which a
killed worker could leave closed, and nobody writes what another one writes too. So no request is forgotten; at the very
limit, each of the other workers may let one more through at the same moment.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass

from decisioning.native import native
from stores.api_keys import MOST_CLIENTS, Client

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""
_COUNT_BITS = 20
"""A count goes up to a limit's requests, a million at most, and what other workers let through besides."""
_COUNT = (1 << _COUNT_BITS) - 1
_WINDOW = (1 << 22) - 1
"""Windows are numbered modulo this: only the one that runs and the one before it matter."""


class Counts:
    """Room for the counts of every client and worker. Make it before workers are forked.

    A count is one word, written at once: the window's number, what was let through in the window before it, and in it.
    """

    __slots__ = ("words", "worker", "workers")

    def __init__(self, workers: int = 1) -> None:
        """`workers`: how many may live at once."""
        self.workers = workers
        self.words = memoryview(mmap.mmap(-1, 8 * workers * MOST_CLIENTS)).cast("q")
        self.worker = 0
        """Which of them this process is: no other living one may be the same."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One client's limit: `requests` at once, and as many in each `seconds` on the average.

    A sliding window: what was let through in the window that runs, and of the one before it the part that still lies
    within the last `seconds`, as if it had been spread over it evenly.
    """

    counts: Counts
    client: int
    requests: int
    seconds: int
    at_once: Callable[[float], bool]
    """`take` in less time, where there plainly is room: False says nothing."""

    @classmethod
    def of(cls, client: Client, counts: Counts) -> "Allowance | None":
        limit = client.limit
        if limit is None:
            return None
        at_once = _by_c(counts, client.place, limit.requests, limit.seconds)
        return cls(counts, client.place, limit.requests, limit.seconds, at_once)

    def take(self, now: float) -> float:
        """0 where there was room; else the seconds until there is, and nothing is taken. `now` is monotonic, and the
        same clock in all workers."""
        counts, moment = self.counts, now / self.seconds
        number = int(moment)
        window, before = number & _WINDOW, (number - 1) & _WINDOW
        words, start = counts.words, self.client * counts.workers
        these = earlier = 0
        for place in range(start, start + counts.workers):
            word = words[place]
            its_window = word >> 2 * _COUNT_BITS
            if its_window == window:
                these += word & _COUNT
                earlier += word >> _COUNT_BITS & _COUNT
            elif its_window == before:
                earlier += word & _COUNT
        passed = moment - number
        if these + earlier * (1.0 - passed) + 1.0 > self.requests:
            return self._wait(these, earlier, passed)
        mine = start + counts.worker
        word = words[mine]
        if word >> 2 * _COUNT_BITS == window:
            words[mine] = word + 1
        else:
            words[mine] = _first(word, window, before)
        return 0.0

    def _wait(self, these: int, earlier: int, passed: float) -> float:
        """Seconds until one more fits, if nobody else takes it."""
        room = self.requests - 1 - these
        if room >= 0:  # once enough of the window before has gone by
            return max(1.0 - room / earlier - passed, 0.0) * self.seconds
        return (1.0 - passed + 1.0 - (self.requests - 1) / these) * self.seconds


def _by_c(counts: Counts, client: int, requests: int, seconds: int) -> Callable[[float], bool]:
    """The extension's `take`; where that isn't there, what never takes any."""
    extension = native("serving._limits", VERSION)
    if extension is None:
        return _never
    words = counts.words[client * counts.workers : (client + 1) * counts.workers]
    at_once: Callable[[float], bool] = extension.Taker(counts, words, requests, seconds).take
    return at_once


def _never(now: float) -> bool:
    return False


def _first(word: int, window: int, before: int) -> int:
    """A worker's count with the first request that it lets through in a window."""
    earlier = word & _COUNT if word >> 2 * _COUNT_BITS == before else 0
    return (window << _COUNT_BITS | earlier) << _COUNT_BITS | 1
