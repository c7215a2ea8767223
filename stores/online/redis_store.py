"""The online store on Redis or Valkey, on one server or on a cluster of them."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from hashlib import sha1
from itertools import islice
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from decisioning.domain import Event, Facts, Value
from features.schema import Schema
from stores.online.budgets import Want, holder
from stores.online.deadline import within
from stores.online.fresh import FRESH_SECONDS, pack_fresh
from stores.online.gathering import Gathering
from stores.online.layout import Keys, Pointer, Version, bucket_of, field_of, pack_event
from stores.online.port import HISTORY_LIMIT, HISTORY_SECONDS, Damaged, PartDown, ReadOnly, StoreDown, TooSlow
from stores.online.reading import Found, facts, is_damage, refuses_writes
from stores.online.scripts import APPLY, APPLY_AND_COUNT, COUNT, REFRESH, REMEMBER, RESERVE
from stores.online.wire import wire

REFRESH_SECONDS = 0.5

OWED_SECONDS = 7 * 86_400
"""An event whose budgets were not told of it, because something died, is counted by a repetition within this time."""
COUNTED_SECONDS = 8 * 86_400
"""How long an event is remembered as counted as long as it may still be owed: longer than that, so never twice …"""
SETTLED_SECONDS = 600
"""… and when it is known to be owed no more: longer than any repetition that had begun before can take."""
SETTLED_AT_ONCE = 100
"""How many events are told to be settled with each that is counted."""


class RedisStore:
    """`url`: as `stores.connect` reads it. `timeout`: seconds for one whole call, connecting included.

    Which version of the features is current is asked again every `refresh_seconds`, within a read. Leases end by the
    server's own clock; `clock` (seconds) takes its place in tests. `gathers`: many callers at once share one write.

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
        gathers: bool = False,
    ):
        self._keys = Keys(namespace)
        self._timeout = timeout
        self._limit = history_limit
        self._refresh_seconds = refresh_seconds
        self._wire = Gathering(wire(url, timeout)) if gathers else wire(url, timeout)
        self._clock = clock
        self._version: Version | None = None
        self._refreshed: float | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._settled: deque[str] = deque(maxlen=10_000)
        """Events that are counted, and owed no more."""

    async def read(
        self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "", *, timeout: float | None = None
    ) -> Facts:
        return await self._guarded(self._read(user, schema, budgets, own), timeout)

    async def apply(self, event: Event, budgets: Sequence[str] = (), *, timeout: float | None = None) -> bool:
        try:
            return await self._guarded(self._apply(event, budgets), timeout)
        except TooSlow as error:  # where a node hangs, those whom it has wait for it, and nobody else
            raise (PartDown(str(error)) if self._wire.has_others else error) from None

    async def refresh(self, user: str, values: Mapping[str, Value], at: float) -> int:
        args: list[Any] = [FRESH_SECONDS]
        for name, value in values.items():
            args += [name, repr(float(at)), pack_fresh(value, at)]
        return await self._guarded(self._run(REFRESH, [self._keys.fresh(user)], args)) if values else 0

    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, *, timeout: float | None = None
    ) -> dict[str, int]:
        keys = [key for want in wants for key in self._keys.budget(want.budget)]
        args: list[str | int] = [self._now(), repr(float(lasts))]
        for want in wants:
            args += [holder(decision_id, want.offer), want.allowed]
        short = await self._guarded(self._run(RESERVE, keys, args), timeout)
        return {wants[place].budget: out for place, out in zip(short[::2], short[1::2], strict=True)}

    async def recall(self, user: str, decision_id: str, *, timeout: float | None = None) -> bytes | None:
        return await self._guarded(self._one("GET", self._keys.answer(user, decision_id)), timeout)

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
        return await self._guarded(self._run(REMEMBER, [self._keys.answer(user, decision_id)], args), timeout)

    async def kill(self, offer: str) -> None:
        await self._guarded(self._one("SADD", self._keys.killed, offer))

    async def revive(self, offer: str) -> None:
        await self._guarded(self._one("SREM", self._keys.killed, offer))

    async def close(self) -> None:
        if self._settling:
            await asyncio.wait(self._settling, timeout=self._timeout)
        await self._guarded(self._wire.close())

    # --- How it asks

    def _now(self) -> str:
        return repr(self._clock()) if self._clock else ""

    async def _guarded(self, call: Awaitable[Any], timeout: float | None = None) -> Any:
        """One deadline over everything, and StoreDown for whatever goes wrong, nonsense from the server included."""
        seconds = self._timeout if timeout is None else timeout
        try:
            return await within(seconds, call)
        except StoreDown:
            raise
        except TimeoutError as error:
            raise TooSlow(f"no answer within {seconds:.3g} s") from error
        except Exception as error:
            raise self._down(error) from error

    async def _one(self, *command: str | int) -> Any:
        """The answer to one command. Raises what it met."""
        (answer,) = await self._wire.ask(command)
        return self._checked(answer)

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The answer of a script, whose keys share a slot. Raises what it met."""
        (answer,) = await self._wire.ask(("EVALSHA", digest(script), len(keys), *keys, *args))
        if isinstance(answer, NoScriptError):
            (answer,) = await self._wire.ask(("EVAL", script, len(keys), *keys, *args))
        return self._checked(answer)

    def _checked(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise self._down(answer) from answer
        return answer

    def _down(self, error: Exception) -> StoreDown:
        kind = StoreDown
        if is_damage(error):
            kind = Damaged
        elif self._wire.has_others:
            kind = PartDown
        elif refuses_writes(error):
            kind = ReadOnly
        return kind(f"{type(error).__name__}: {error}")

    # --- Reading

    async def _read(self, user: str, schema: Schema, budgets: Sequence[str], own: str) -> Facts:
        now = time.monotonic()
        due = self._refreshed is None or now - self._refreshed >= self._refresh_seconds
        version = self._version
        asked = [
            ("HVALS", self._keys.history(user)),
            ("HGETALL", self._keys.fresh(user)),
            ("SMEMBERS", self._keys.killed),
        ]
        at = self._clock() if self._clock else time.time()
        for name in budgets:
            spent, leases, _ = self._keys.budget(name)
            asked += [("GET", spent), ("ZCOUNT", leases, f"({at!r}", "+inf")]
        if version is not None:
            asked.append(self._vector(version, user))
        if due:
            asked.append(("GET", self._keys.current))
        answers = await self._wire.ask(*asked)
        if all(isinstance(answer, Exception) for answer in answers) and not self._wire.has_others:
            raise self._down(answers[0]) from answers[0]
        (history, fresh, killed), rest = answers[:3], iter(answers[3:])
        counted = list(islice(rest, 2 * len(budgets)))
        packed = next(rest) if version is not None else None
        if due:
            current = _current(next(rest))
            if isinstance(current, Exception):  # the version that was current holds; without one, nothing is known
                packed = current if version is None else packed
            else:
                self._version, self._refreshed = current, now
                if current != version:
                    # What was read may belong to a version that is gone by now: read again, from the one that counts.
                    version = current
                    packed = (await self._wire.ask(self._vector(version, user)))[0] if version else None
        return facts(Found(version, packed, history, fresh, killed, budgets, counted), schema, own)

    def _vector(self, version: Version, user: str) -> tuple[str | bytes, ...]:
        field = field_of(user)
        return "HGET", self._keys.bucket(version, bucket_of(field, version.buckets)), field

    # --- Applying

    async def _apply(self, event: Event, budgets: Sequence[str]) -> bool:
        """On a cluster two scripts, as users and budgets have their slots: `redis_scripts` tells why each acts once."""
        user = event.user
        keys = [self._keys.history(user), self._keys.trimmed(user), self._keys.owed(user)]
        args = [event.event_id, pack_event(event), repr(float(event.at)), self._limit, HISTORY_SECONDS, self._now()]
        if not budgets or self._wire.is_one_server:
            keys += [key for name in budgets for key in self._keys.budget(name)]
            who = holder(event.decision_id, event.offer)
            return bool(await self._run(APPLY_AND_COUNT if budgets else APPLY, keys, [*args, "", who]))
        found = await self._run(APPLY, keys, [*args, OWED_SECONDS])
        if found & 2:
            await self._count(event, budgets)
            task = asyncio.create_task(self._settle(event))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        return bool(found & 1)

    async def _count(self, event: Event, budgets: Sequence[str]) -> None:
        keys = [self._keys.counted, *(key for name in budgets for key in self._keys.budget(name))]
        settled = [self._settled.popleft() for _ in range(min(len(self._settled), SETTLED_AT_ONCE))]
        who = holder(event.decision_id, event.offer)
        await self._run(COUNT, keys, [_mark(event), who, self._now(), COUNTED_SECONDS, SETTLED_SECONDS, *settled])

    async def _settle(self, event: Event) -> None:
        """Beside the request: whatever comes of it, the event is counted once."""
        (gone,) = await self._wire.ask(("ZREM", self._keys.owed(event.user), event.event_id))
        if not isinstance(gone, Exception):
            self._settled.append(_mark(event))


def _current(pointer: Any) -> Version | Exception | None:
    """The version that a pointer names, or why that can't be told."""
    if not isinstance(pointer, bytes):
        return pointer
    try:
        return Pointer.decode(pointer).current
    except ValueError:
        return ResponseError("WRONGTYPE the pointer can't be read")


def _mark(event: Event) -> str:
    """An event among those of all users."""
    return f"{event.user}|{event.event_id}"


@cache
def digest(script: str) -> str:
    """By which a server knows a script that it has run before."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
