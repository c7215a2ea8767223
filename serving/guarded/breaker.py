"""The online store behind a circuit breaker: no request waits for a store that is known to be down.

Three states (`serving.guarded.circuit`): all is well; the store is read but takes no writes; the store is down. In the
second, what is reported waits in a backlog, and reads know of what waits here; hard budgets are closed, as nobody can
take a unit. Of a cluster a part may be down: then what needs that part goes without, and all is well for the others.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from typing import Any, TypeVar

import structlog

from decisioning.domain import Event, Facts
from features.schema import Schema
from serving.guarded.backlog import APPLY_TIMEOUT, AT_ONCE, Backlog
from serving.guarded.circuit import Circuit, State
from stores.online.budgets import Want
from stores.online.port import Damaged, OnlineStore, PartDown, ReadOnly, StoreDown, TooSlow
from stores.online.reader import Reading

PROBE_TIMEOUT = 0.1
"""Seconds: hardly more than a request would wait, so that a store too slow for requests is not taken for a well one."""
WARM_TIMEOUT = 0.5
PROBE_LASTS = 1.0
NO_FEATURES = Schema(())
LAST_WORDS_WITHIN = 1.0
"""Seconds for what still waits when a server ends."""

UNREAD = frozenset({"features", "history", "budgets", "killed"})
DOWN, SLOW, READ_ONLY = "store:down", "store:slow", "store:read_only"
PART_DOWN, DAMAGED = "store:part_down", "store:damaged"

T = TypeVar("T")

log = structlog.get_logger()


class GuardedStore:
    """Never raises, and waits no longer than the store does, which keeps the deadlines that it is given."""

    def __init__(self, store: OnlineStore) -> None:
        self.outcomes: Counter[str] = Counter()
        """Reads by how they ended: `ok`, or what `degraded` said."""
        self._store = store
        self._circuit = Circuit(self._mend)
        self._backlog = Backlog()
        self._killed: frozenset[str] = frozenset()
        self._is_behind = False
        """Whether writes are not answered in time, though reads are: then they wait their turn in the backlog."""
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> State:
        return self._circuit.state

    @property
    def is_down(self) -> bool:
        return self._circuit.state is State.OPEN

    @property
    def entered(self) -> Mapping[State, int]:
        """How often each state was entered."""
        return self._circuit.entered

    @property
    def waiting(self) -> int:
        """Events that the store has still to take."""
        return len(self._backlog)

    @property
    def missed(self) -> int:
        """Events that no counter will know of, as too many waited."""
        return self._backlog.missed

    @property
    def trouble(self) -> str:
        """What `degraded` says of an event that is not counted yet."""
        if self._circuit.state is State.READ_ONLY:
            return READ_ONLY
        return SLOW if self._is_behind and not self.is_down else DOWN

    async def warm(self, schema: Schema) -> None:
        """Connects before the first request would have to, or learns that the store is down."""
        try:
            facts = await self._store.read("probe", schema, timeout=WARM_TIMEOUT)
        except Exception as error:  # noqa: BLE001  the server starts without its store
            self._circuit.enter(State.OPEN, _why(error))
        else:
            self._known(facts)

    def read(self, user: str, schema: Schema, budgets: Sequence[str], timeout: float) -> Awaitable[Facts]:
        """All that is known of a user, and what is out of `budgets`; `timeout` in seconds.

        It is asked already when this returns. Where all is well it is a `Reading`, which takes no coroutine.
        """
        if self._circuit.state is not State.OPEN:
            asked = self._store.read(user, schema, budgets, timeout=timeout)
            if type(asked) is Reading:
                asked.check = self._checked
                return asked
            return self._read(user, asked)
        return self._read(user, None)

    async def _read(self, user: str, asked: Awaitable[Facts] | None) -> Facts:
        """`asked`: None where the store is not asked at all."""
        if asked is None:
            return self.unread(DOWN)
        try:
            found: Facts | Exception = await asked
        except Exception as error:  # noqa: BLE001  whatever a store raises, the request is answered
            found = error
        return self._checked(found, user)

    def _checked(self, found: Facts | Exception, user: str) -> Facts:
        """What whoever asked is given: what was read, or else what is known of nobody in particular."""
        if isinstance(found, Exception):
            return self.unread(self._judged(found))
        if found.unread or self._backlog.waiting or self._circuit.state is not State.CLOSED:
            return self._well(found, user)
        self._circuit.good += 1
        self.outcomes["ok"] += 1
        self._killed = found.killed
        return found

    async def read_again(
        self, user: str, schema: Schema, budgets: Sequence[str], timeout: float, decision_id: str
    ) -> tuple[Facts, bytes | None]:
        """The same for a decision that may have been made before, without what it showed; and the answer it gave."""
        if self._circuit.state is State.OPEN:
            return self.unread(DOWN), None
        try:
            found, answer = await self._store.read_again(user, schema, budgets, decision_id, timeout=timeout)
        except Exception as error:  # noqa: BLE001  whatever a store raises, the request is answered
            return self.unread(self._judged(error)), None
        return self._well(found, user, decision_id), answer

    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, timeout: float
    ) -> Mapping[str, int] | None:
        """Units of hard budgets, as the store's `reserve`. None: nobody knows, so nothing may be shown."""
        return await self._written(self._store.reserve, decision_id, wants, lasts, timeout=timeout)

    async def remember(
        self, user: str, decision_id: str, answer: bytes, lasts: float, instead_of: bytes | None, timeout: float
    ) -> bytes | None:
        """The answer that another server gave to the same decision meanwhile; else None, also when nobody knows."""
        return await self._written(self._store.remember, user, decision_id, answer, lasts, instead_of, timeout=timeout)

    async def record(self, events: Sequence[Event], timeout: float) -> None:
        """Applies events of the server's own making. What is not done in time goes on in the background."""

        async def write() -> None:
            await asyncio.gather(*(self.apply(event, ()) for event in events))

        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.wait({task}, timeout=timeout)

    async def apply(self, event: Event, budgets: Sequence[str]) -> bool | None:
        """True: counted. False: seen before. None: not now; the event waits until the store takes it.

        None also where the user's keys are damaged: no repetition would help.
        """
        if self._circuit.state is not State.CLOSED or self._is_behind or self._backlog.concerns(event.user):
            self._backlog.add(event, budgets)
            return None
        good = self._circuit.good
        try:
            is_new = await self._store.apply(event, budgets, timeout=APPLY_TIMEOUT)
        except Exception as error:  # noqa: BLE001  the event is in the log already
            if isinstance(error, TooSlow) and good == self._circuit.good:
                error = StoreDown("a write was not answered in time, nor was anything else meanwhile")
            self._is_behind |= isinstance(error, TooSlow)
            self._judged(error, writing=True)
            if isinstance(error, Damaged):
                log.error("event_refused", why=str(error))
            else:
                self._backlog.add(event, budgets)
                self._circuit.mend_soon()
            return None
        self._circuit.good += 1
        return is_new

    async def close(self) -> None:
        await asyncio.gather(*self._writing)
        await self._circuit.close()
        with suppress(Exception):  # a store that is down can't be left politely
            if self._backlog and not self.is_down:
                await asyncio.wait_for(self._backlog.catch_up(self._store), LAST_WORDS_WITHIN)
        if self._backlog:
            log.error("events_uncounted", events=len(self._backlog), why="the store took none: the log has them")
        with suppress(Exception):
            await self._store.close()

    async def _written(self, write: Callable[..., Awaitable[T]], *words: Any, timeout: float) -> T | None:
        """What the store answers to a write; None where it takes none, or failed to answer."""
        if self._circuit.state is not State.CLOSED:
            return None
        try:
            found = await write(*words, timeout=timeout)
        except Exception as error:  # noqa: BLE001  whatever a store raises, the request is answered
            self._judged(error, writing=True)
            return None
        self._circuit.good += 1
        return found

    async def _mend(self) -> bool:
        """One attempt: a read and a write like any others where the store is unwell, then whatever waits."""
        try:
            if self._circuit.state is not State.CLOSED:
                self._known(await self._store.read("probe", NO_FEATURES, timeout=PROBE_TIMEOUT))
        except Exception as error:  # noqa: BLE001  the next attempt tells
            self._judged(error)
            return False
        try:
            if self._circuit.state is not State.CLOSED:
                with suppress(PartDown):  # the others may be well
                    await self._store.remember("probe", token_hex(8), b"", PROBE_LASTS, timeout=PROBE_TIMEOUT)
                await self._backlog.catch_up(self._store, AT_ONCE)
                self._circuit.enter(State.CLOSED)  # reads know of what waits still
            await self._backlog.catch_up(self._store)
            self._is_behind = False
        except Exception as error:  # noqa: BLE001
            self._judged(error, writing=True)
        return self._circuit.state is State.CLOSED and not self._backlog

    def _judged(self, error: Exception, *, writing: bool = False) -> str:
        """What a failure says of the store, and of the answer."""
        match error:
            case TooSlow():
                self._circuit.note_slow()
                return SLOW
            case PartDown():
                return PART_DOWN
            case Damaged():
                return DAMAGED
            case ReadOnly() if writing:
                self._circuit.enter(State.READ_ONLY, _why(error))
                return READ_ONLY
        self._circuit.enter(State.OPEN, _why(error))
        return DOWN

    def _well(self, found: Facts, user: str, own: str = "") -> Facts:
        """What was read, with what the store does not know yet."""
        self._circuit.good += 1
        self.outcomes["ok"] += 1
        found = self._known(found)
        if self._backlog.waiting:
            found = self._backlog.told(found, user, own)
        if self._circuit.state is State.READ_ONLY:
            found = replace(found, degraded=(*found.degraded, READ_ONLY))
        return found

    def _known(self, found: Facts) -> Facts:
        """Where they can't be read, the kill switches that were read last still hold: safer than none."""
        if "killed" in found.unread:
            return replace(found, killed=self._killed)
        self._killed = found.killed
        return found

    def unread(self, why: str) -> Facts:
        self.outcomes[why] += 1
        return Facts(killed=self._killed, unread=UNREAD, degraded=(why,))


def _why(error: Exception) -> str:
    """For the log: our own StoreDown speaks plainly; of anything else the type is enough."""
    return str(error) if isinstance(error, StoreDown) else type(error).__name__
