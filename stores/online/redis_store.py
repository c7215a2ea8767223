"""The online store on Redis or Valkey, on one server or on a cluster of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from hashlib import sha1
from time import monotonic
from typing import Any

from redis.exceptions import NoScriptError

from decisioning.domain import Event, Facts, Value
from features.schema import Schema
from stores.online.budgets import Want, holder
from stores.online.fresh import FRESH_SECONDS, pack_fresh
from stores.online.layout import pack_event
from stores.online.port import HISTORY_LIMIT, HISTORY_SECONDS, PartDown, StoreDown, TooSlow
from stores.online.reader import Reader
from stores.online.scripts import APPLY, APPLY_AND_COUNT, COUNT, REFRESH, REMEMBER, RESERVE
from stores.online.wire import command

REFRESH_SECONDS = 0.5

OWED_SECONDS = 7 * 86_400
"""An event whose budgets were not told of it, because something died, is counted by a repetition within this time."""
COUNTED_SECONDS = 8 * 86_400
"""How long an event is remembered as counted as long as it may still be owed: longer than that, so never twice …"""
SETTLED_SECONDS = 600
"""… and when it is known to be owed no more: longer than any repetition that had begun before can take."""
SETTLED_AT_ONCE = 100
"""How many events are told to be settled with each that is counted."""


class RedisStore(Reader):
    """`url`: as `stores.connect` reads it. `timeout`: seconds for one whole call, connecting included.

    Which version of the features is current is asked again every `refresh_seconds`, within a read. Leases end by the
    server's own clock; `clock` (seconds) takes its place in tests.

    On a cluster the keys of one user share a slot, and those of all budgets share one, so that each script has what it
    needs where it runs. A read asks all nodes that it needs at once. What a node that is down has to say is missing
    from the facts, and they say so; StoreDown means that nothing at all could be read.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.05,
        namespace: str = "segue",
        history_limit: int = HISTORY_LIMIT,
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] | None = None,
    ):
        super().__init__(url, timeout, namespace, refresh_seconds, clock)
        self._limit = history_limit
        self._settling: set[asyncio.Task[None]] = set()
        self._settled: deque[str] = deque(maxlen=10_000)
        """Events that are counted, and owed no more."""

    async def read_again(
        self, user: str, schema: Schema, budgets: Sequence[str], decision_id: str, *, timeout: float | None = None
    ) -> tuple[Facts, bytes | None]:
        answer, told = command(("GET", self._keys.answer(user, decision_id))), list[Any]()
        found = await self._read(user, schema, tuple(budgets), decision_id, self._due(timeout), (answer,), told)
        (kept,) = told
        return found, None if isinstance(kept, Exception) else kept

    async def apply(self, event: Event, budgets: Sequence[str] = (), *, timeout: float | None = None) -> bool:
        try:
            return await self._guarded(self._apply(event, budgets, self._due(timeout)))
        except TooSlow as error:  # where a node hangs, those whom it has wait for it, and nobody else
            raise (PartDown(str(error)) if self._wire.has_others else error) from None

    async def refresh(self, user: str, values: Mapping[str, Value], at: float) -> int:
        args: list[Any] = [FRESH_SECONDS]
        for name, value in values.items():
            args += [name, repr(float(at)), pack_fresh(value, at)]
        return await self._guarded(self._run(self._due(), REFRESH, [self._keys.fresh(user)], args)) if values else 0

    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, *, timeout: float | None = None
    ) -> dict[str, int]:
        keys = [key for want in wants for key in self._keys.budget(want.budget)]
        args: list[str | int] = [self._now(), repr(float(lasts))]
        for want in wants:
            args += [holder(decision_id, want.offer), want.allowed]
        short = await self._guarded(self._run(self._due(timeout), RESERVE, keys, args))
        return {wants[place].budget: out for place, out in zip(short[::2], short[1::2], strict=True)}

    async def recall(self, user: str, decision_id: str, *, timeout: float | None = None) -> bytes | None:
        return await self._guarded(self._one(self._due(timeout), "GET", self._keys.answer(user, decision_id)))

    async def remember(
        self,
        user: str,
        decision_id: str,
        answer: bytes,
        lasts: float,
        instead_of: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes | None:
        args = [instead_of or b"", answer, max(1, int(lasts * 1000))]
        return await self._guarded(
            self._run(self._due(timeout), REMEMBER, [self._keys.answer(user, decision_id)], args)
        )

    async def kill(self, offer: str) -> None:
        await self._guarded(self._one(self._due(), "SADD", self._keys.killed, offer))

    async def revive(self, offer: str) -> None:
        await self._guarded(self._one(self._due(), "SREM", self._keys.killed, offer))

    async def close(self) -> None:
        if self._settling:
            await asyncio.wait(self._settling, timeout=self._timeout)
        await self._wire.close()

    # --- How it asks

    def _now(self) -> str:
        return repr(self._clock()) if self._clock else ""

    def _due(self, timeout: float | None = None) -> float:
        return monotonic() + (self._timeout if timeout is None else timeout)

    async def _guarded(self, call: Awaitable[Any]) -> Any:
        """StoreDown for whatever goes wrong, nonsense from the server included."""
        try:
            return await call
        except StoreDown:
            raise
        except Exception as error:
            raise self.down(error) from error

    async def _one(self, due: float, *words: str | int) -> Any:
        """The answer to one command. Raises what it met."""
        (answer,) = await self._wire.ask(command(words), due=due)
        return self._checked(answer)

    async def _run(self, due: float, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The answer of a script, whose keys share a slot. Raises what it met."""
        (answer,) = await self._wire.ask(command(("EVALSHA", digest(script), len(keys), *keys, *args)), due=due)
        if isinstance(answer, NoScriptError):
            (answer,) = await self._wire.ask(command(("EVAL", script, len(keys), *keys, *args)), due=due)
        return self._checked(answer)

    def _checked(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise self.down(answer) from answer
        return answer

    # --- Applying

    async def _apply(self, event: Event, budgets: Sequence[str], due: float) -> bool:
        """On a cluster two scripts, as users and budgets have their slots: `redis_scripts` tells why each acts once."""
        user = event.user
        keys = [self._keys.history(user), self._keys.trimmed(user), self._keys.owed(user)]
        args = [event.event_id, pack_event(event), repr(float(event.at)), self._limit, HISTORY_SECONDS, self._now()]
        if not budgets or self._wire.is_one_server:
            keys += [key for name in budgets for key in self._keys.budget(name)]
            who = holder(event.decision_id, event.offer)
            return bool(await self._run(due, APPLY_AND_COUNT if budgets else APPLY, keys, [*args, "", who]))
        found = await self._run(due, APPLY, keys, [*args, OWED_SECONDS])
        if found & 2:
            await self._count(event, budgets, due)
            task = asyncio.create_task(self._settle(event))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        return bool(found & 1)

    async def _count(self, event: Event, budgets: Sequence[str], due: float) -> None:
        keys = [self._keys.counted, *(key for name in budgets for key in self._keys.budget(name))]
        settled = [self._settled.popleft() for _ in range(min(len(self._settled), SETTLED_AT_ONCE))]
        who = holder(event.decision_id, event.offer)
        await self._run(due, COUNT, keys, [_mark(event), who, self._now(), COUNTED_SECONDS, SETTLED_SECONDS, *settled])

    async def _settle(self, event: Event) -> None:
        """Beside the request: whatever comes of it, the event is counted once."""
        (gone,) = await self._wire.ask(command(("ZREM", self._keys.owed(event.user), event.event_id)), due=self._due())
        if not isinstance(gone, Exception):
            self._settled.append(_mark(event))


def _mark(event: Event) -> str:
    """An event among those of all users."""
    return f"{event.user}|{event.event_id}"


@cache
def digest(script: str) -> str:
    """By which a server knows a script that it has run before."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
