"""Publishing to Redis or Valkey, one server or a cluster: the shelf behind `publishing.publish`."""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee

import msgspec
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import MovedError, OutOfMemoryError, RedisError

from decisioning.errors import UserError
from stores.connect import FAILURES, connect
from stores.home import NAMESPACE_VARIABLE
from stores.online.layout import Keys, Pointer, Version, bucket_of
from stores.publishing.lock import Lock
from stores.publishing.port import Block, Refused
from stores.publishing.room import check_room
from stores.publishing.wire import Command, Wire, command, hash_commands

TIMEOUT_SECONDS = 30.0
EXPIRE_SECONDS = (600, 900)
"""Versions that nobody reads any more go after so long, spread, so that the server does not free them all at once."""
MEASURED = 50
"""Buckets whose memory is measured."""

# Each looks first whether the lock is still ours: what another publisher does since must not be undone.
# KEYS: lock. ARGV: token.
LOOK = "return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or -1"
# KEYS: lock, progress. ARGV: token, version, rows.
NOTE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
"""
# KEYS: lock, versions, progress. ARGV: token, version.
FORGET = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
return 1
"""
# KEYS: lock, current, progress. ARGV: token, expected, new.
FLIP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('DEL', KEYS[3])
return 1
"""

TAKEN_OVER = (
    "This process was silent for so long that the store took it for dead, and another may be publishing by now. "
    "This one has stopped: look which features are in use, then publish again if need be."
)
PLAIN = (
    "The server keeps these features as plain hashes, which take up to half as much memory again: set its "
    "hash-max-listpack-value to at least {vector_bytes} (256 is a good value): it counts from the next snapshot on."
)
FULL = (
    "The store's memory is full; the features in use are unchanged, and what was written of the new ones is removed "
    "again. Give it more memory (maxmemory), then publish again."
)


@contextmanager
def opened(url: str, namespace: str = "segue") -> Iterator["RedisShelf"]:
    """The shelf at a URL. Whatever goes wrong with the server meanwhile becomes a UserError."""
    client = None
    try:
        client = connect(url, TIMEOUT_SECONDS)
        yield RedisShelf(client, namespace)
    except MovedError as error:
        raise UserError("The store is a node of a cluster: give its address as redis+cluster://host:port.") from error
    except OutOfMemoryError as error:
        raise UserError(FULL) from error
    except FAILURES as error:
        raise UserError(
            f"The feature store failed ({type(error).__name__}: {error}). Check that the server is up, then repeat the "
            "command: publishing goes on where it was, and until all of it is there the features in use stay."
        ) from error
    finally:
        if client:
            client.close()


class RedisShelf:
    """`client` must not decode answers."""

    def __init__(self, client: Redis | RedisCluster, namespace: str = "segue"):
        self._client = client
        self._wire = Wire(client)
        self._keys = Keys(namespace)
        self._lock = Lock(client, self._keys.lock)

    @contextmanager
    def lock(self) -> Iterator[None]:
        self._refuse_strangers(b"string", [self._keys.lock, self._keys.current])
        self._refuse_strangers(b"hash", [self._keys.versions, self._keys.progress])
        with self._lock.held():
            yield

    def pointer(self) -> Pointer | None:
        text = self._client.get(self._keys.current)
        try:
            return Pointer.decode(text) if text else None
        except ValueError:
            raise self._stranger(self._keys.current) from None

    def begin(self, version: Version, keep: Sequence[Version]) -> int:
        known = self._versions()
        kept = {one.name for one in keep}
        for other in known:
            if other.name not in kept and other != version:
                self.drop(other)
        done = self._client.hget(self._keys.progress, version.name)
        if version in known and done is not None:
            return int(done)
        if version not in known:
            self._refuse_strangers(b"hash", self._buckets(version))
            self._client.hset(self._keys.versions, version.name, msgspec.json.encode(version))
        self._run(self._each(version, b"UNLINK"))  # one that was on its way out may still have buckets
        self._note(version, 0)
        return 0

    def check_room(self, users: int, vector_bytes: int, *, allow_eviction: bool) -> tuple[str, ...]:
        return check_room(self._wire.servers, users, vector_bytes, allow_eviction=allow_eviction)

    def write(self, version: Version, block: Block, done: int) -> None:
        try:
            self._run(hash_commands(block, version.buckets, lambda number: self._bucket(version, number)))
            self._note(version, done)
        except OutOfMemoryError as error:
            raise Refused(FULL) from error

    def users(self, version: Version) -> int:
        return sum(self._wire.ask(self._each(version, b"HLEN"), damaged=0))

    def lookup(self, version: Version, fields: Sequence[bytes]) -> list[bytes | None]:
        buckets = ((self._bucket(version, bucket_of(field, version.buckets)), field) for field in fields)
        return list(self._wire.ask((command(b"HGET", key, field) for key, field in buckets), damaged=None))

    def flip(self, expected: Pointer | None, to: Pointer) -> bool:
        before = expected.encode() if expected else b""
        return self._if_ours(FLIP, [self._keys.current, self._keys.progress], before, to.encode()) == 1

    def drop(self, version: Version) -> None:
        self._run(self._each(version, b"UNLINK"))
        self._forget(version)

    def mend(self, version: Version) -> None:
        damaged = list(self._of_another_kind(b"hash", self._buckets(version)))
        self._run(command(b"UNLINK", key.encode()) for key in damaged)

    def sweep(self, keep: Sequence[Version]) -> None:
        kept = {version.name for version in keep}
        for version in self._versions():
            if version.name not in kept:
                self._run(self._each(version, b"EXPIRE", spread=EXPIRE_SECONDS))
                self._forget(version)

    def memory(self, version: Version) -> int | None:
        """An estimate from some of the buckets; None where the server doesn't tell (`MEMORY USAGE` refused)."""
        try:
            sizes = [self._client.memory_usage(key) or 0 for key in self._some_buckets(version)]
        except RedisError:
            return None
        return round(sum(sizes) / len(sizes) * version.buckets)

    def advice(self, version: Version, vector_bytes: int) -> tuple[str, ...]:
        try:
            kept = {self._client.object("ENCODING", key) for key in self._some_buckets(version)}
        except RedisError:
            return ()
        return (PLAIN.format(vector_bytes=vector_bytes),) if b"hashtable" in kept else ()

    def _some_buckets(self, version: Version) -> list[str]:
        numbers = random.Random(version.name).sample(range(version.buckets), min(MEASURED, version.buckets))
        return [self._keys.bucket(version, number) for number in numbers]

    def _buckets(self, version: Version) -> Iterator[str]:
        return (self._keys.bucket(version, number) for number in range(version.buckets))

    def _bucket(self, version: Version, number: int) -> bytes:
        return self._keys.bucket(version, number).encode()

    def _each(self, version: Version, name: bytes, spread: tuple[int, int] | None = None) -> Iterator[Command]:
        for number in range(version.buckets):
            words = (b"%d" % random.randint(*spread),) if spread else ()
            yield command(name, self._bucket(version, number), *words)

    def _versions(self) -> list[Version]:
        try:
            return [msgspec.json.decode(text, type=Version) for text in self._client.hvals(self._keys.versions)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._stranger(self._keys.versions) from None

    def _run(self, commands: Iterable[Command]) -> None:
        """Looks ahead of each lot whether the lock is still ours: another publisher may be using these keys by now."""
        self._wire.run(commands, before=lambda: self._if_ours(LOOK, []))

    def _note(self, version: Version, done: int) -> None:
        self._if_ours(NOTE, [self._keys.progress], version.name, done)

    def _forget(self, version: Version) -> None:
        self._if_ours(FORGET, [self._keys.versions, self._keys.progress], version.name)

    def _if_ours(self, script: str, keys: Sequence[str], *words: str | bytes | int) -> int:
        answer = self._client.eval(script, 1 + len(keys), self._keys.lock, *keys, self._lock.token, *words)
        if answer == -1:
            raise UserError(TAKEN_OVER)
        return answer

    def _refuse_strangers(self, kind: bytes, keys: Iterable[str]) -> None:
        """What another project keeps under our names has to be told from ours before anything is written."""
        for key in self._of_another_kind(kind, keys):
            raise self._stranger(key)

    def _of_another_kind(self, kind: bytes, keys: Iterable[str]) -> Iterator[str]:
        keys, again = tee(keys)
        kinds = self._wire.ask(command(b"TYPE", key.encode()) for key in again)
        return (key for key, found in zip(keys, kinds, strict=True) if found not in (kind, b"none"))

    def _stranger(self, key: str) -> UserError:
        return UserError(
            f"The store's key {key} isn't one that publishing made: another project seems to use these names. Nothing "
            f"was written; choose names of your own with {NAMESPACE_VARIABLE}, or another store."
        )
