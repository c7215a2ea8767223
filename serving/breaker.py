"""The online store behind a circuit breaker: no request waits for a store that is known to be down."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.online import OnlineStore, StoreDown

PROBE_EVERY = 0.2
"""Seconds between probes while the store is down."""
PROBE_TIMEOUT = 0.5
APPLY_TIMEOUT = 0.25
SLOW_SECONDS = 0.2
SLOW_READS = 5
"""So many reads past their deadline, over such a time, and no good one among them, mean that the store hangs. Many at
once may be the doing of one moment in which the machine was busy."""
MAX_BACKLOG = 10_000
"""Events kept for the store while it is down. The log has them all; beyond this the oldest miss the counters."""

UNREAD = frozenset({"features", "history", "budgets", "killed"})
DOWN, SLOW = "store:down", "store:slow"

T = TypeVar("T")

log = structlog.get_logger()


class GuardedStore:
    """Never raises and never waits past the deadline. Opens on a failure; a probe in the background closes it."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._slow = 0
        self._slow_since = 0.0
        self._killed: frozenset[str] = frozenset()
        self._probe: asyncio.Task[None] | None = None
        self._backlog: deque[tuple[Event, tuple[str, ...]]] = deque(maxlen=MAX_BACKLOG)

    @property
    def is_down(self) -> bool:
        return self._probe is not None

    async def warm(self, schema: Schema) -> None:
        """Connects before the first request would have to, or learns that the store is down."""
        try:
            await self._ask(schema)
        except Exception as error:  # noqa: BLE001  the server starts without its store
            self._open(_why(error), schema)

    async def read(self, user: str, schema: Schema, budgets: Sequence[str], timeout: float) -> Facts:
        """All that is known of a user, and what is spent of `budgets`; `timeout` in seconds."""
        if self._probe is not None:
            return self._unread(DOWN)
        try:
            facts = await within(timeout, self._store.read(user, schema, budgets))
        except TimeoutError:
            self._note_slow(schema)
            return self._unread(SLOW)
        except Exception as error:  # noqa: BLE001  whatever a store raises, the request is answered
            self._open(_why(error), schema)
            return self._unread(DOWN)
        self._slow, self._killed = 0, facts.killed
        return facts

    async def apply(self, event: Event, budgets: tuple[str, ...], schema: Schema) -> bool | None:
        """True: counted. False: seen before. None: the store is down, and the event is kept for when it is back."""
        if self._probe is None:
            try:
                async with asyncio.timeout(APPLY_TIMEOUT):
                    return await self._store.apply(event, budgets)
            except Exception as error:  # noqa: BLE001  the event is in the log already
                self._open(_why(error), schema)
        self._backlog.append((event, budgets))
        return None

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe
        with suppress(Exception):  # a store that is down can't be left politely
            await self._store.close()

    def _unread(self, why: str) -> Facts:
        """Nothing is known. The kill switches that were read last still hold: safer than none."""
        return Facts(killed=self._killed, unread=UNREAD, degraded=(why,))

    def _note_slow(self, schema: Schema) -> None:
        now = time.monotonic()
        self._slow_since = self._slow_since if self._slow else now
        self._slow += 1
        if self._slow >= SLOW_READS and now - self._slow_since >= SLOW_SECONDS:
            self._open("reads past their deadline", schema)

    def _open(self, why: str, schema: Schema) -> None:
        if self._probe is None:
            log.error("store_down", why=why)
            self._probe = asyncio.create_task(self._until_back(schema))

    async def _until_back(self, schema: Schema) -> None:
        """Probes with a read like any other, brings the counters up to date, and closes the breaker."""
        while True:
            await asyncio.sleep(PROBE_EVERY)
            with suppress(Exception):  # still down: the next probe tells
                await self._ask(schema)
                await self._catch_up()
                break
        self._slow = 0
        self._probe = None
        log.info("store_back")

    async def _ask(self, schema: Schema) -> None:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await self._store.read("probe", schema)

    async def _catch_up(self) -> None:
        """Applies what came in meanwhile. An event counts once, however often it is applied."""
        while self._backlog:
            waiting = self._backlog.popleft()
            try:
                async with asyncio.timeout(APPLY_TIMEOUT):
                    await self._store.apply(*waiting)
            except BaseException:
                self._backlog.appendleft(waiting)
                raise


async def within(seconds: float, call: Awaitable[T]) -> T:
    """Awaits `call` for so many seconds; raises TimeoutError after that.

    Unlike asyncio.timeout it is fair when this process itself was held up: then the timer and the answer are due in the
    same turn of the loop, and the timer must not win over an answer that has arrived already.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:
        # Two steps: what the timer does takes effect a turn later than what has arrived.
        timer = loop.call_later(seconds, lambda: deadline.reschedule(loop.time()))
        try:
            return await call
        finally:
            timer.cancel()


def _why(error: Exception) -> str:
    """For the log: our own StoreDown speaks plainly; of anything else the type is enough."""
    return str(error) if isinstance(error, StoreDown) else type(error).__name__
