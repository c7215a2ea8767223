"""How far behind a worker is, and so how much work a request may still cost.

A worker that gets more requests than it can answer falls behind: what it reads has waited in the kernel, and what it
has read waits for its turn. The first is the loop's lag, the sum is a request's age. No queue is counted and no rate is
measured: time lost is what the client feels, whatever the reason.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from time import perf_counter

from decisioning.domain import Rung

BEAT = 0.005
"""Seconds between two beats of the heart. A lag shorter than that is none."""
CACHED_AFTER = 0.015
"""Seconds of age after which scores that are known already take the place of the models'."""
PRIOR_AFTER = 0.025
"""Seconds of age after which no score is personal, and nothing is asked of the store beyond one read."""
SPARED = 0.005
"""Seconds that an answer must have left for the store to be asked at all; also the age past which nobody explains."""
LATE = 0.1
"""Seconds of age after which a request is refused, however patient its surface: a longer queue helps nobody."""


class Pressure:
    """Of one worker. `arrived` costs a sixth of a microsecond; the heart beats only while there are requests."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._last, self._due = 0.0, float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self.late = LATE
        self.too_late = 0
        """Requests that were refused for their age."""
        self.refused: Counter[tuple[str, int]] = Counter()
        """Those and others that never came to the application, by route and status."""

    def arrived(self) -> float:
        """When bytes that are read now came in, at the earliest: after the loop's last look at its sockets."""
        self._is_busy = True
        now = self._clock()
        if now < self._due:
            return now
        if self._timer is None:
            self._beat_from(now)
            return now
        return self._last  # the heart is late, so the loop is: since its last beat nobody looked

    def lag(self) -> float:
        """Seconds for which the loop has not looked at its sockets; 0 where that is no longer than a beat."""
        now = self._clock()
        return now - self._last if now >= self._due and self._timer is not None else 0.0

    def is_late(self, arrived: float) -> bool:
        """Whether a request has waited so long that nobody waits for its answer any more."""
        return self._clock() - arrived >= self.late

    def serve(self, deadlines: Collection[float]) -> None:
        """From now on for surfaces with these deadlines (seconds): what is older than the longest is refused."""
        self.late = min(max(deadlines, default=LATE), LATE)

    def _beat_from(self, now: float) -> None:
        self._last, self._due = now, now + BEAT
        self._is_busy = False
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def _beat(self) -> None:
        if self._is_busy:
            self._beat_from(self._clock())
        else:
            self._timer = None


def rung(age: float, budget: float, *, is_read: bool = False) -> Rung:
    """How much a request may still cost that is `age` seconds old and has `budget` seconds in all.

    A short budget brings the first step forward; where it leaves no time to ask the store, nobody asks. Once the store
    has been read (`is_read`), the fallback would save nothing.
    """
    if age < min(CACHED_AFTER, budget / 2):
        return Rung.MODEL
    if age > budget - SPARED and not is_read:
        return Rung.FALLBACK
    return Rung.CACHED if age < PRIOR_AFTER else Rung.PRIOR
