"""The online store on Redis or Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.layout import Keys, Pointer, Version, bucket_of, pack_event, unpack_history, unpack_vector
from stores.online import CORRUPT_HISTORY, HISTORY_LIMIT, HISTORY_SECONDS, UNKNOWN_USER, UNPUBLISHED, StoreDown

REFRESH_SECONDS = 0.5
CONNECTIONS = 32

# Applies one event, once. KEYS: history, trimmed ids, budget counters. ARGV: id, packed event, time, limit, seconds.
# A history that outgrows its limit loses its oldest event, by (time, id) so that the order of arrival never matters;
# its id stays in `trimmed` for as long as a repetition could still come; one that comes even later is not applied.
APPLY = """
local history, trimmed = KEYS[1], KEYS[2]
local id, packed, at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])

local function time_of(value)
  local ok, event = pcall(cmsgpack.unpack, value)
  return ok and type(event) == 'table' and tonumber(event[1]) or -math.huge
end

if redis.call('HEXISTS', history, id) == 1 or redis.call('ZSCORE', trimmed, id) then return 0 end
redis.call('HSET', history, id, packed)
if redis.call('HLEN', history) > limit then
  local all = redis.call('HGETALL', history)
  local oldest, when, newest
  for i = 1, #all, 2 do
    local t = time_of(all[i + 1])
    if not when or t < when or (t == when and all[i] < oldest) then oldest, when = all[i], t end
    if not newest or t > newest then newest = t end
  end
  redis.call('HDEL', history, oldest)
  if oldest == id and when < newest - seconds then return 0 end
  redis.call('ZADD', trimmed, string.format('%.17g', when), oldest)
  redis.call('ZREMRANGEBYSCORE', trimmed, '-inf', string.format('(%.17g', newest - seconds))
  redis.call('EXPIRE', trimmed, seconds)
end
redis.call('EXPIRE', history, seconds)
for i = 3, #KEYS do redis.call('INCR', KEYS[i]) end
return 1
"""


class RedisStore:
    """`url`: redis://, rediss:// or unix://. `timeout`: seconds for one whole call, connecting included.

    Which version of the features is current is asked again every `refresh_seconds`, within a read.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.05,
        namespace: str = "segue",
        history_limit: int = HISTORY_LIMIT,
        refresh_seconds: float = REFRESH_SECONDS,
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
        self._version: Version | None = None
        self._refreshed: float | None = None

    async def read(self, user: str, schema: Schema, budgets: Sequence[str] = ()) -> Facts:
        return await self._guarded(self._read(user, schema, budgets))

    async def apply(self, event: Event, budgets: Sequence[str] = ()) -> bool:
        keys = [self._keys.history(event.user), self._keys.trimmed(event.user), *map(self._keys.budget, budgets)]
        args = [event.event_id, pack_event(event), repr(float(event.at)), self._limit, HISTORY_SECONDS]
        return bool(await self._guarded(self._apply(keys, args)))

    async def kill(self, offer: str) -> None:
        await self._guarded(self._client.sadd(self._keys.killed, offer))

    async def revive(self, offer: str) -> None:
        await self._guarded(self._client.srem(self._keys.killed, offer))

    async def close(self) -> None:
        await self._guarded(self._client.aclose())

    async def _guarded(self, call: Awaitable[Any]) -> Any:
        """One deadline over everything, and one error for whatever goes wrong, nonsense from the server included."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except Exception as error:
            raise StoreDown(f"{type(error).__name__}: {error}") from error

    async def _read(self, user: str, schema: Schema, budgets: Sequence[str]) -> Facts:
        now = time.monotonic()
        due = self._refreshed is None or now - self._refreshed >= self._refresh_seconds
        version = self._version
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hvals(self._keys.history(user))
            pipe.smembers(self._keys.killed)
            for name in budgets:
                pipe.get(self._keys.budget(name))
            if version is not None:
                pipe.hget(self._keys.bucket(version, bucket_of(user, version.buckets)), user)
            if due:
                pipe.get(self._keys.current)
            answers = await pipe.execute()
        history, killed, *rest = answers
        spent = {name: int(count or 0) for name, count in zip(budgets, rest, strict=False)}
        packed = rest[len(budgets)] if version is not None else None
        if due:
            current = Pointer.decode(rest[-1]).current if rest[-1] else None
            self._version, self._refreshed = current, now
            if current != version:
                # What was read may belong to a version that is gone by now: read again, from the one that counts.
                version = current
                packed = await self._vector(version, user)
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
            budgets=spent,
            killed=frozenset(offer.decode() for offer in killed),
            degraded=degraded,
        )
        try:
            return replace(facts, history=unpack_history(history))
        except msgspec.DecodeError:
            return replace(facts, unread=frozenset({"history"}), degraded=(*degraded, CORRUPT_HISTORY))

    async def _vector(self, version: Version | None, user: str) -> bytes | None:
        if version is None:
            return None
        return await self._client.hget(self._keys.bucket(version, bucket_of(user, version.buckets)), user)
