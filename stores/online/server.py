"""The wire to one server: one connection, whatever is asked in one turn of the event loop in one write.

A task of its own connects, and connects again whenever the connection is lost: no request ever does, and none waits
for it but those that come before the very first attempt is decided. One timer for all of them looks whose time has
passed, and whether the server has fallen silent: then the connection is closed and replaced.
"""

import asyncio
from contextlib import suppress
from math import inf
from random import uniform
from time import monotonic

from stores.online.asked import Asked
from stores.online.connection import Connection
from stores.online.door import Door
from stores.online.wire import Command

MOST_ASKED = 16_384
"""Questions without an answer. Whoever comes then is refused at once: a server so far behind gets no further."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Seconds between attempts to connect: twice as many after each that fails, give or take a third."""
LEAST_PATIENCE = 0.25
STEADY = 1.0
"""A connection that held for so many seconds was a good one: the next attempt comes without a pause."""
SHORTEST_NAP = 0.001


class Server:
    """`timeout`: seconds to connect in, and of silence after which a server that was asked is taken to hang; never
    less than `LEAST_PATIENCE`."""

    is_one_server = True
    has_others = False

    def __init__(self, door: Door, timeout: float) -> None:
        self._door, self._patience = door, max(timeout, LEAST_PATIENCE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._inside: Connection | None = None
        self._lost: asyncio.Future[Exception] | None = None
        self._why: Exception | None = None
        """Why nothing can be asked now; None also before the first attempt is decided."""
        self._asked: list[Asked] = []
        """What goes out at the end of this turn."""
        self._wakes = inf
        """When the timer is due."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_down(self) -> bool:
        return self._why is not None

    def ask(self, *commands: Command, due: float) -> Asked:
        asked = Asked(asyncio.get_running_loop(), b"".join(commands), len(commands), due)
        self.put(asked)
        return asked

    def put(self, asked: Asked) -> None:
        """Asks what stands in `asked`, which is told the answers."""
        if self._loop is None:
            self._begin()
        inside = self._inside
        if inside is None and self._why is not None:
            asked.fail(self._why)
            return
        if len(self._asked) >= MOST_ASKED or (inside and (inside.is_full or len(inside.waiting) >= MOST_ASKED)):
            asked.fail(ConnectionRefusedError("too much is waiting for its answers"))
            return
        if not self._asked:
            self._loop.call_soon(self._send)
        self._asked.append(asked)
        if asked.due < self._wakes:
            self._wake_at(asked.due)

    async def close(self) -> None:
        """Whoever still waits learns that it is closed."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = inf
        closed = ConnectionAbortedError("it is closed")
        if self._inside is not None:
            self._inside.close(closed)
        self._go_down(closed)

    def _send(self) -> None:
        """All of one turn in one write; what nobody waits for any more is not sent at all."""
        if self._inside is None or not self._asked:
            return
        asked, self._asked = self._asked, []
        self._inside.send([one for one in asked if not one.done()])

    def _go_down(self, why: Exception) -> None:
        self._inside, self._why = None, why
        asked, self._asked = self._asked, []
        for one in asked:
            one.fail(why)

    # --- Staying connected

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._why is None:
            self._keeping = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            started = monotonic()
            self._lost = lost = self._loop.create_future()
            try:
                self._inside = await self._door.enter(self._patience, self._on_lost)
                self._why = None
                self._send()
                why = await lost
            except Exception as error:  # noqa: BLE001  whatever keeps us out
                why = error
            self._go_down(why)
            was_steady = monotonic() - started > max(STEADY, 2 * self._patience)
            pause = 0.0 if was_steady else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            await asyncio.sleep(pause * uniform(2 / 3, 4 / 3))

    def _on_lost(self, why: Exception) -> None:
        """Before the task above hears of it: nobody asks a connection that is lost."""
        if self._inside is not None:
            self._go_down(why)
        if not self._lost.done():
            self._lost.set_result(why)

    # --- Deadlines

    def _wake_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = moment
        self._timer = self._loop.call_later(max(moment - monotonic(), SHORTEST_NAP), self._on_time)

    def _on_time(self) -> None:
        """In two steps, between which the loop takes in what has arrived: where this process itself was held up, the
        timer must not win over an answer that is there already."""
        self._timer = None
        self._loop.call_soon(self._loop.call_soon, self._look)

    def _look(self) -> None:
        """Whose time has passed learns it; a server that owes answers and gives none is left."""
        now, self._wakes = monotonic(), inf
        inside = self._inside
        nearest = inf
        for one in [*(inside.waiting if inside else ()), *self._asked]:
            if one.due <= now:
                one.fail(TimeoutError("no answer in time"))
            elif not one.done():
                nearest = min(nearest, one.due)
        if inside is not None and inside.waiting:
            silent_at = inside.quiet_since + self._patience
            if now >= silent_at:
                inside.close(ConnectionError(f"the server said nothing for {self._patience} s"))
            else:
                nearest = min(nearest, silent_at)
        if nearest < self._wakes:
            self._wake_at(nearest)
