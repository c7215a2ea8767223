"""Publishing to Redis or Valkey: the shelf behind `publishing.publish`."""

import random
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from decisioning.errors import UserError
from stores.layout import Keys, Pointer, Version, bucket_of, field_of
from stores.publishing import ALREADY_PUBLISHING, Row

TIMEOUT_SECONDS = 30.0
LOCK_SECONDS = 60
EXPIRE_SECONDS = (600, 900)
"""Versions that nobody reads any more go after so long, spread, so that the server does not free them all at once."""
CHUNK = 5_000
"""Commands in one pipeline."""
MEASURED = 50
"""Buckets whose memory is measured."""

COMPARE_AND_SET = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@contextmanager
def opened(url: str, namespace: str = "segue") -> Iterator["RedisShelf"]:
    """The shelf at a URL. Whatever goes wrong with the server meanwhile becomes a UserError."""
    client = Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        yield RedisShelf(client, namespace)
    except (RedisError, OSError) as error:
        raise UserError(
            f"The feature store failed while publishing ({type(error).__name__}: {error}); the features in use are "
            "unchanged. Check that the server is up and has memory left, then publish again."
        ) from error
    finally:
        client.close()


class RedisShelf:
    """`client` must not decode answers."""

    def __init__(self, client: Redis, namespace: str = "segue"):
        self._client = client
        self._keys = Keys(namespace)
        self._token = secrets.token_hex(8)

    @contextmanager
    def lock(self) -> Iterator[None]:
        if not self._client.set(self._keys.lock, self._token, nx=True, ex=LOCK_SECONDS):
            raise UserError(ALREADY_PUBLISHING)
        try:
            yield
        finally:
            self._client.eval(UNLOCK, 1, self._keys.lock, self._token)

    def pointer(self) -> Pointer | None:
        text = self._client.get(self._keys.current)
        return Pointer.decode(text) if text else None

    def begin(self, version: Version) -> None:
        if self._client.hget(self._keys.versions, version.name) is not None:
            # Left by an interrupted attempt, or about to expire: start from nothing.
            self._for_each_bucket(version, "UNLINK")
        self._client.hset(self._keys.versions, version.name, msgspec.json.encode(version))

    def write(self, version: Version, rows: Sequence[Row]) -> None:
        by_bucket: dict[int, list[str | bytes]] = defaultdict(list)
        for user, packed in rows:
            field = field_of(user)
            by_bucket[bucket_of(field, version.buckets)] += (field, packed)
        with self._client.pipeline(transaction=False) as pipe:
            for number, flat in by_bucket.items():
                pipe.execute_command("HSET", self._keys.bucket(version, number), *flat)
            pipe.expire(self._keys.lock, LOCK_SECONDS)
            pipe.execute()

    def users(self, version: Version) -> int:
        return sum(self._for_each_bucket(version, "HLEN"))

    def lookup(self, version: Version, users: Sequence[str]) -> list[bytes | None]:
        with self._client.pipeline(transaction=False) as pipe:
            for field in map(field_of, users):
                pipe.hget(self._keys.bucket(version, bucket_of(field, version.buckets)), field)
            return pipe.execute()

    def flip(self, expected: Pointer | None, to: Pointer) -> bool:
        before = expected.encode() if expected else b""
        return bool(self._client.eval(COMPARE_AND_SET, 1, self._keys.current, before, to.encode()))

    def sweep(self, keep: Sequence[Version]) -> None:
        names = {version.name for version in keep}
        for text in self._client.hvals(self._keys.versions):
            version = msgspec.json.decode(text, type=Version)
            if version.name not in names:
                self._for_each_bucket(version, "EXPIRE", spread=EXPIRE_SECONDS)
                self._client.hdel(self._keys.versions, version.name)

    def memory(self, version: Version) -> int | None:
        """An estimate from some of the buckets; None where the server doesn't tell (`MEMORY USAGE` refused)."""
        numbers = random.Random(version.name).sample(range(version.buckets), min(MEASURED, version.buckets))
        try:
            sizes = [self._client.memory_usage(self._keys.bucket(version, number)) or 0 for number in numbers]
        except RedisError:
            return None
        return round(sum(sizes) / len(sizes) * version.buckets)

    def _for_each_bucket(self, version: Version, command: str, spread: tuple[int, int] | None = None) -> list[int]:
        answers: list[int] = []
        for start in range(0, version.buckets, CHUNK):
            with self._client.pipeline(transaction=False) as pipe:
                for number in range(start, min(start + CHUNK, version.buckets)):
                    last = (random.randint(*spread),) if spread else ()
                    pipe.execute_command(command, self._keys.bucket(version, number), *last)
                answers += pipe.execute()
        return answers
