"""What a server believes of its store: well, well but taking no writes, or down; and when to look again."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum

import structlog

PROBE_EVERY = 0.2
"""Seconds between attempts to mend what is not well."""
SLOW_SECONDS = 0.4
SLOW_ANSWERS = 5
"""So many answers past their deadline, over such a time, and no good one among them, mean that the store hangs. Many at
once may be the doing of one moment in which the machine was busy."""

log = structlog.get_logger()


class State(StrEnum):
    CLOSED = "closed"
    """Everything is asked."""
    READ_ONLY = "read_only"
    """Reads are asked, writes wait."""
    OPEN = "open"
    """Nothing is asked."""


_TOLD = {State.READ_ONLY: "store_read_only", State.OPEN: "store_down"}


class Circuit:
    """`mend`: one attempt to make things whole again, in the background; returns whether nothing is left to do.

    It never raises, and changes the state by what it finds. Attempts go on until one is the last.
    """

    def __init__(self, mend: Callable[[], Awaitable[bool]]) -> None:
        self.state = State.CLOSED
        self.entered: Counter[State] = Counter()
        """How often each state was entered."""
        self.good = 0
        """Answers that came in time."""
        self._mend = mend
        self._mending: asyncio.Task[None] | None = None
        self._since = 0.0
        self._slow = 0
        self._slow_since = 0.0
        self._good_before = 0

    def note_slow(self) -> None:
        """An answer did not come in time. Several, and none that did, open the circuit."""
        now = time.monotonic()
        if self._slow == 0 or self.good != self._good_before:
            self._slow, self._slow_since, self._good_before = 0, now, self.good
        self._slow += 1
        if self._slow >= SLOW_ANSWERS and now - self._slow_since >= SLOW_SECONDS:
            self.enter(State.OPEN, "answers past their deadline, and none in time")

    def enter(self, state: State, why: str = "") -> None:
        if state is self.state:
            return
        before, self.state = self.state, state
        self.entered[state] += 1
        now = time.monotonic()
        if state is State.CLOSED:
            self._slow = 0
            log.info("store_back", after=round(now - self._since, 3))
            return
        if before is State.CLOSED:
            self._since = now
        log.error(_TOLD[state], why=why)
        self.mend_soon()

    def mend_soon(self) -> None:
        if self._mending is None:
            self._mending = asyncio.create_task(self._until_mended())

    async def close(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
            with suppress(asyncio.CancelledError):
                await self._mending

    async def _until_mended(self) -> None:
        is_done = False
        while not is_done:
            await asyncio.sleep(PROBE_EVERY)
            is_done = await self._mend()
        self._mending = None
