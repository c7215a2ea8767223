"""The online store behind a circuit breaker: no request waits for a store that is known to be down.

Of a cluster a part may be down: then what needs that part goes without, and the breaker stays closed for the others.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import structlog

from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.online.budgets import Want
from stores.online.port import Damaged, OnlineStore, PartDown, StoreDown

PROBE_EVERY = 0.2
"""Seconds between probes while the store is down."""
PROBE_TIMEOUT = 0.5
APPLY_TIMEOUT = 0.25
SLOW_SECONDS = 0.2
SLOW_READS = 5
"""So many reads past their deadline, over such a time, and no good one among them, mean that the store hangs. Many at
once may be the doing of one moment in which the machine was busy."""
MOST_REFUSED = 20
"""Events of the backlog that a part refused, before the rest of them wait for the next attempt."""
MAX_BACKLOG = 10_000
"""Events kept for the store while it is down. The log has them all; beyond this the oldest miss the counters."""

UNREAD = frozenset({"features", "history", "budgets", "killed"})
DOWN, SLOW, PART_DOWN, DAMAGED = "store:down", "store:slow", "store:part_down", "store:damaged"

T = TypeVar("T")

log = structlog.get_logger()


class Unwell(str):
    """Why there is no answer from the store: what `degraded` says."""


class GuardedStore:
    """Never raises and never waits past the deadline. Opens on a failure; a probe in the background closes it."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._slow = 0
        self._slow_since = 0.0
        self._killed: frozenset[str] = frozenset()
        self._probe: asyncio.Task[None] | None = None
        self._repeating: asyncio.Task[None] | None = None
        self._backlog: deque[tuple[Event, tuple[str, ...]]] = deque(maxlen=MAX_BACKLOG)
        self._writing: set[asyncio.Task[None]] = set()

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
        """All that is known of a user, and what is out of `budgets`; `timeout` in seconds."""
        return self._noted(await self._asked(lambda: self._store.read(user, schema, budgets), schema, timeout))

    async def read_again(
        self, user: str, schema: Schema, budgets: Sequence[str], timeout: float, decision_id: str
    ) -> tuple[Facts, bytes | None]:
        """The same for a decision that may have been made before, without what it showed; and the answer it gave."""

        async def both() -> tuple[Facts, bytes | None]:
            read = self._store.read(user, schema, budgets, decision_id)
            facts, answer = await asyncio.gather(read, self._recalled(user, decision_id))
            return facts, answer

        found = await self._asked(both, schema, timeout)
        return (self._noted(found), None) if isinstance(found, Unwell) else (self._noted(found[0]), found[1])

    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, schema: Schema, timeout: float
    ) -> Mapping[str, int] | None:
        """Units of hard budgets, as the store's `reserve`. None: nobody knows, so nothing may be shown."""
        found = await self._asked(lambda: self._store.reserve(decision_id, wants, lasts), schema, timeout)
        return None if isinstance(found, Unwell) else found

    async def remember(
        self,
        user: str,
        decision_id: str,
        answer: bytes,
        lasts: float,
        instead_of: bytes | None,
        schema: Schema,
        timeout: float,
    ) -> bytes | None:
        """The answer that another server gave to the same decision meanwhile; else None, also when nobody knows."""
        call = lambda: self._store.remember(user, decision_id, answer, lasts, instead_of)  # noqa: E731
        found = await self._asked(call, schema, timeout)
        return None if isinstance(found, Unwell) else found

    async def record(self, events: Sequence[Event], schema: Schema, timeout: float) -> None:
        """Applies events of the server's own making. What is not done in time goes on in the background."""

        async def write() -> None:
            await asyncio.gather(*(self.apply(event, (), schema) for event in events))

        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.wait({task}, timeout=timeout)

    async def _recalled(self, user: str, decision_id: str) -> bytes | None:
        """The answer remembered; where that can't be told of this one user, there is none."""
        try:
            return await self._store.recall(user, decision_id)
        except (PartDown, Damaged):
            return None

    async def _asked(self, call: Callable[[], Awaitable[T]], schema: Schema, timeout: float) -> T | Unwell:
        """What the store answers within the deadline, or why it doesn't."""
        if self._probe is not None:
            return Unwell(DOWN)
        try:
            found = await within(timeout, call())
        except TimeoutError:
            self._note_slow(schema)
            return Unwell(SLOW)
        except (PartDown, Damaged) as error:
            return Unwell(PART_DOWN if isinstance(error, PartDown) else DAMAGED)
        except Exception as error:  # noqa: BLE001  whatever a store raises, the request is answered
            self._open(_why(error), schema)
            return Unwell(DOWN)
        self._slow = 0
        return found

    async def apply(self, event: Event, budgets: tuple[str, ...], schema: Schema) -> bool | None:
        """True: counted. False: seen before. None: the store is down, and the event is kept for when it is back.

        None also where the user's keys are damaged: no repetition would help.
        """
        if self._probe is None:
            try:
                async with asyncio.timeout(APPLY_TIMEOUT):
                    return await self._store.apply(event, budgets)
            except Damaged as error:
                log.error("event_refused", why=str(error))
                return None
            except PartDown as error:
                self._repeat(str(error))
            except Exception as error:  # noqa: BLE001  the event is in the log already
                self._open(_why(error), schema)
        self._backlog.append((event, budgets))
        return None

    async def close(self) -> None:
        await asyncio.gather(*self._writing)
        for task in (self._probe, self._repeating):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        with suppress(Exception):  # a store that is down can't be left politely
            await self._store.close()

    def _noted(self, found: Facts | Unwell) -> Facts:
        """Where they can't be read, the kill switches that were read last still hold: safer than none."""
        if isinstance(found, Unwell):
            return Facts(killed=self._killed, unread=UNREAD, degraded=(str(found),))
        if "killed" in found.unread:
            return replace(found, killed=self._killed)
        self._killed = found.killed
        return found

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
            self._noted(await self._store.read("probe", schema))

    def _repeat(self, why: str) -> None:
        if self._repeating is None:
            log.error("store_part_down", why=why)
            self._repeating = asyncio.create_task(self._until_applied())

    async def _until_applied(self) -> None:
        """Brings to a part that was down what it missed, while the others are served."""
        while self._backlog:
            await asyncio.sleep(PROBE_EVERY)
            if self._probe is None:  # else that one catches up
                with suppress(Exception):
                    await self._catch_up()
        self._repeating = None
        log.info("store_part_back")

    async def _catch_up(self) -> None:
        """Applies what came in meanwhile. An event counts once, however often it is applied.

        What a part that is down has to take goes to the end of the line.
        """
        refused = 0
        for _ in range(len(self._backlog)):
            waiting = self._backlog.popleft()
            try:
                async with asyncio.timeout(APPLY_TIMEOUT):
                    await self._store.apply(*waiting)
            except PartDown as error:
                self._backlog.append(waiting)
                self._repeat(str(error))
                refused += 1
                if refused == MOST_REFUSED:
                    return
            except Damaged as error:
                log.error("event_refused", why=str(error))
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
