"""Readers while versions of the features are flipped: whether any finds nothing, or values of two versions."""

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event

from benchmarks.many_users import SECRET
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.identity import user_key
from features.schema import Schema
from stores.online.redis_store import REFRESH_SECONDS, RedisStore
from stores.publishing.publish import publish

USERS, SEED = 2_000, 1
NAMESPACE = "flips"
SCHEMA = Schema(tuple(FeatureSpec(f"f{number:02}", FeatureType.INT) for number in range(40)))


def flips(url: str, count: int) -> dict[str, int]:
    """Reads across flips: how many, and how many found nothing, or values of different versions."""
    users = [user_key(SECRET, f"flip-{number}") for number in range(USERS)]
    over = Event()

    def publish_on() -> None:
        for build in itertools.count(2):
            if over.is_set():
                return
            _publish(url, users, build)

    _publish(url, users, 1)
    with ThreadPoolExecutor(1) as pool:
        publisher = pool.submit(publish_on)
        try:
            found = asyncio.run(_watch(url, users, count))
        finally:
            over.set()
        publisher.result()
    return found


def _publish(url: str, users: Sequence[str], build: int) -> None:
    """A version of which every value is its number, as is its moment."""
    packed = SCHEMA.pack(dict.fromkeys(SCHEMA.names, build))
    rows = ((user, packed) for user in users)
    publish(url, rows, schema=SCHEMA, as_of=float(build), snapshot_id=f"b{build}", count=USERS, namespace=NAMESPACE)


async def _watch(url: str, users: Sequence[str], count: int) -> dict[str, int]:
    """By two readers: the service's own pace of looking at the pointer, and one that looks with every read."""
    stores = [
        RedisStore(url, timeout=5.0, namespace=NAMESPACE, refresh_seconds=pace) for pace in (REFRESH_SECONDS, 0.0)
    ]
    random, misses, mixed, seen = Random(SEED), 0, 0, set()
    for number in range(count):
        facts = await stores[number % 2].read(random.choice(users), SCHEMA)
        values = {facts.features.get(name) for name in SCHEMA.names}
        misses += values == {None}
        mixed += values != {None} and values != {facts.as_of}
        seen |= values
    for store in stores:
        await store.close()
    return {"flip_reads": count, "flip_misses": misses, "flip_mixed": mixed, "flips_seen": len(seen - {None}) - 1}
