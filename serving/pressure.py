"""How far behind a worker is, and so how much work a request may still cost.

A worker that gets more requests than it can answer falls behind: what it reads has waited in the kernel, and what it
has read waits for its turn. The first is told by the loop's lag, and the sum is a request's age, from which its rung
follows. Whether a request is taken on at all hangs on what lies before it too: on how many are in hand, and on how long
each of them took lately.
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
"""Seconds of age after which no score is personal, and no unit of a hard budget is asked for."""
SPARED = 0.005
"""Seconds that an answer must have left for the store to be asked at all; also the age past which nobody explains."""
LATE = 0.1
"""Seconds of age after which a request is refused, and more than any queue may take, however patient a surface is."""


FEW = 8
"""Answers between two beats that say nothing of what one takes."""
MOST_SECONDS = 0.001
"""An answer that takes longer is not what the next one will take: it has reasons, or somebody stopped the process."""
SMOOTHING = 0.3
"""What the last beat counts for in what is known of late."""
FORGETTING = 0.97
"""What is left, after a beat in which little was to do, of what an answer took when much was."""


class Pressure:
    """Of one worker. `arrived` costs a sixth of a microsecond; the heart beats only while there are requests."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._last, self._due = 0.0, float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._lag = 0.0
        self._told = 0.0
        self.in_hand: set[object] = set()
        """The requests that were taken on and are not answered."""
        self.seconds = 0.0
        """What an answer takes, by the last turns of a busy loop, with the refusals that were sent meanwhile."""
        self.answered = 0
        """Requests that were taken on and answered."""
        self.patience = LATE
        """Seconds that what is in hand may take before more is refused."""
        self.too_late = 0
        """Requests that were refused for their age."""
        self.refused: Counter[tuple[str, int]] = Counter()
        """Those and others that never came to the application, by route and status."""

    def arrived(self) -> float:
        """When bytes that are read now came in: since the loop's last look at its sockets, so on average in between."""
        self._is_busy = True
        now = self._clock()
        if now < self._due:
            return now
        if self._timer is None:
            self._beat_from(now)
            return now
        return (self._last + now) / 2  # the heart is late, so the loop is: since its last beat nobody looked

    def behind(self) -> float:
        """Seconds that a request may have to wait, whoever it is: for the loop, as of late or in this very turn, or for
        what is in hand to be answered."""
        lag, waiting = self._lag, len(self.in_hand) * self.seconds
        if self._timer is not None:
            now = self._clock()
            if now >= self._due and now - self._last > lag:
                lag = now - self._last
        return lag if lag > waiting else waiting

    def is_late(self, arrived: float) -> bool:
        """Whether a request that was just read came too long ago, or would wait too long for what is in hand.

        The first alone is patient: after a hiccup a late answer is better than none, as long as there are few.
        """
        return len(self.in_hand) * self.seconds >= self.patience or self._clock() - arrived >= LATE

    def serve(self, deadlines: Collection[float]) -> None:
        """From now on for surfaces with these deadlines (seconds)."""
        self.patience = min(max(deadlines, default=LATE), LATE)

    def _beat_from(self, now: float) -> None:
        self._last, self._due = now, now + BEAT
        self._is_busy = False
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def _beat(self) -> None:
        if not self._is_busy:
            self._timer, self._lag = None, 0.0
            return
        now = self._clock()
        self._lag += SMOOTHING * ((now - self._last if now >= self._due + BEAT else 0.0) - self._lag)
        done = self.answered
        if now < self._due + BEAT:  # it has time to wait, so little will be in hand at once
            self.seconds *= FORGETTING
        elif done - self._told >= FEW:
            seconds = min((now - self._last) / (done - self._told), MOST_SECONDS)
            self.seconds += SMOOTHING * (seconds - self.seconds) if self.seconds else seconds
        self._told = done
        self._beat_from(now)


def rung(age: float, budget: float, *, is_read: bool = False) -> Rung:
    """How much a request may still cost that is `age` seconds old and has `budget` seconds in all.

    A short budget brings the first step forward; where it leaves no time to ask the store, nobody asks. Once the store
    has been read (`is_read`), the fallback would save nothing.
    """
    if age < CACHED_AFTER and age < budget / 2:
        return Rung.MODEL
    if age > budget - SPARED and not is_read:
        return Rung.FALLBACK
    return Rung.CACHED if age < PRIOR_AFTER else Rung.PRIOR
