"""The online store on Redis or Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.budgets import Want, holder
from stores.layout import Keys, Pointer, Version, bucket_of, field_of, pack_event, unpack_history, unpack_vector
from stores.online import CORRUPT_HISTORY, HISTORY_LIMIT, HISTORY_SECONDS, UNKNOWN_USER, UNPUBLISHED, StoreDown
from stores.redis_scripts import APPLY, REMEMBER, RESERVE

REFRESH_SECONDS = 0.5
CONNECTIONS = 32


class RedisStore:
    """`url`: redis://, rediss:// or unix://. `timeout`: seconds for one whole call, connecting included.

    Which version of the features is current is asked again every `refresh_seconds`, within a read. Leases end by the
    server's own clock; `clock` (seconds) takes its place in tests.

    A Redis Cluster: all keys of one user share a slot, and all budgets share one, so that each script has what it needs
    where it runs; but an impression counts towards both, so `apply` would have to become two steps there.
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
        self._keys = Keys(namespace)
        self._timeout = timeout
        self._limit = history_limit
        self._refresh_seconds = refresh_seconds
        # redis-py would otherwise wait 5 s and retry ten times, whatever the timeout says.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._client = Redis.from_pool(pool)
        self._apply = self._client.register_script(APPLY)
        self._reserve = self._client.register_script(RESERVE)
        self._remember = self._client.register_script(REMEMBER)
        self._clock = clock
        self._version: Version | None = None
        self._refreshed: float | None = None

    async def read(self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "") -> Facts:
        return await self._guarded(self._read(user, schema, budgets, own))

    async def apply(self, event: Event, budgets: Sequence[str] = ()) -> bool:
        keys = [self._keys.history(event.user), self._keys.trimmed(event.user)]
        keys += [key for name in budgets for key in self._keys.budget(name)]
        who = holder(event.decision_id, event.offer)
        at = repr(float(event.at))
        args = [event.event_id, pack_event(event), at, self._limit, HISTORY_SECONDS, self._now(), who]
        return bool(await self._guarded(self._apply(keys, args)))

    async def reserve(self, decision_id: str, wants: Sequence[Want], lasts: float) -> dict[str, int]:
        keys = [key for want in wants for key in self._keys.budget(want.budget)]
        args: list[str | int] = [self._now(), repr(float(lasts))]
        for want in wants:
            args += [holder(decision_id, want.offer), want.allowed]
        short = await self._guarded(self._reserve(keys, args))
        return {wants[place].budget: out for place, out in zip(short[::2], short[1::2], strict=True)}

    async def recall(self, user: str, decision_id: str) -> bytes | None:
        return await self._guarded(self._client.get(self._keys.answer(user, decision_id)))

    async def remember(
        self, user: str, decision_id: str, answer: bytes, lasts: float, instead_of: bytes | None = None
    ) -> bytes | None:
        args = [instead_of or b"", answer, max(1, int(lasts * 1000))]
        return await self._guarded(self._remember([self._keys.answer(user, decision_id)], args))

    async def kill(self, offer: str) -> None:
        await self._guarded(self._client.sadd(self._keys.killed, offer))

    async def revive(self, offer: str) -> None:
        await self._guarded(self._client.srem(self._keys.killed, offer))

    async def close(self) -> None:
        await self._guarded(self._client.aclose())

    def _now(self) -> str:
        return repr(self._clock()) if self._clock else ""

    async def _guarded(self, call: Awaitable[Any]) -> Any:
        """One deadline over everything, and one error for whatever goes wrong, nonsense from the server included."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except Exception as error:
            raise StoreDown(f"{type(error).__name__}: {error}") from error

    async def _read(self, user: str, schema: Schema, budgets: Sequence[str], own: str) -> Facts:
        now = time.monotonic()
        due = self._refreshed is None or now - self._refreshed >= self._refresh_seconds
        version, field = self._version, field_of(user)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hvals(self._keys.history(user))
            pipe.smembers(self._keys.killed)
            at = self._clock() if self._clock else time.time()
            for name in budgets:
                spent, leases, _ = self._keys.budget(name)
                pipe.get(spent)
                pipe.zcount(leases, f"({at!r}", "+inf")
            if version is not None:
                pipe.hget(self._keys.bucket(version, bucket_of(field, version.buckets)), field)
            if due:
                pipe.get(self._keys.current)
            answers = await pipe.execute()
        history, killed, *rest = answers
        counted, rest = rest[: 2 * len(budgets)], rest[2 * len(budgets) :]
        out = {
            name: int(spent or 0) + leases
            for name, spent, leases in zip(budgets, counted[::2], counted[1::2], strict=True)
        }
        packed = rest[0] if version is not None else None
        if due:
            current = Pointer.decode(rest[-1]).current if rest[-1] else None
            self._version, self._refreshed = current, now
            if current != version:
                # What was read may belong to a version that is gone by now: read again, from the one that counts.
                version = current
                packed = await self._vector(version, field)
        if version is None:
            features, as_of, degraded = {}, None, (UNPUBLISHED,)
        elif packed is None:
            features, as_of, degraded = {}, None, (UNKNOWN_USER,)
        else:
            features, degraded = unpack_vector(packed, schema)
            as_of = None if degraded else version.as_of
        facts = Facts(
            features=features,
            as_of=as_of,
            budgets=out,
            killed=frozenset(offer.decode() for offer in killed),
            degraded=degraded,
        )
        try:
            return replace(facts, history=unpack_history(history, own))
        except msgspec.DecodeError:
            return replace(facts, unread=frozenset({"history"}), degraded=(*degraded, CORRUPT_HISTORY))

    async def _vector(self, version: Version | None, field: bytes) -> bytes | None:
        if version is None:
            return None
        return await self._client.hget(self._keys.bucket(version, bucket_of(field, version.buckets)), field)
