"""How long the store on Redis keeps what it is told, how compactly, and that what earlier versions left is read."""

import asyncio
from secrets import token_hex

import msgspec
import pytest
from small_store import EVENT, SCHEMA

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event
from features.schema import Schema
from stores.online.budgets import Want
from stores.online.layout import Keys
from stores.online.redis_store import RedisStore
from stores.publishing.publish import publish
from stores.publishing.redis_store import EXPIRE_SECONDS, RedisShelf

pytestmark = pytest.mark.anyio


async def test_a_reader_that_slept_through_two_snapshots_misses_nothing(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    shelf, store = (
        RedisShelf(admin, namespace),
        RedisStore(valkey_url, timeout=1.0, namespace=namespace, refresh_seconds=0.0),
    )
    for build in (1, 2, 3):
        packed = SCHEMA.pack({"build": build})
        publish(shelf, [("ann", packed)], schema=SCHEMA, as_of=0.0, snapshot_id=f"s{build}", count=1)
        if build == 1:
            assert (await store.read("ann", SCHEMA)).features == {"build": 1}
    assert admin.delete(f"{namespace}:fs:s1:0") == 1
    assert (await store.read("ann", SCHEMA)).features == {"build": 3}
    await store.close()


def test_versions_that_nobody_reads_any_more_expire(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    for build in (1, 2, 3):
        packed = SCHEMA.pack({"build": build})
        publish(valkey_url, [("ann", packed)], schema=SCHEMA, as_of=0.0, snapshot_id=f"s{build}", count=1,
                namespace=namespace)  # fmt: skip
    assert EXPIRE_SECONDS[0] <= admin.ttl(f"{namespace}:fs:s1:0") <= EXPIRE_SECONDS[1]
    assert [admin.ttl(f"{namespace}:fs:s{build}:0") for build in (2, 3)] == [-1, -1]
    assert set(admin.hkeys(Keys(namespace).versions)) == {b"s2", b"s3"}


def test_many_users_are_kept_compactly(valkey_url):
    """Two hundred bytes a user of forty features is what the design counts on; plain hashes take over five hundred."""
    schema = Schema(tuple(FeatureSpec(f"f{number:02}", FeatureType.FLOAT) for number in range(40)))
    packed = schema.pack({})
    rows = ((f"{number:032x}", packed) for number in range(5000))
    result = publish(valkey_url, rows, schema=schema, as_of=0.0, snapshot_id="s", count=5000, namespace=token_hex(6))
    assert result.bytes_per_user < 220


async def test_a_history_expires_when_nothing_more_comes(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(valkey_url, timeout=1.0, namespace=namespace)
    await store.apply(EVENT)
    assert 89 * 86_400 < admin.ttl(Keys(namespace).history("ann")) <= 90 * 86_400
    await store.close()


async def test_leases_end_by_the_servers_own_clock_and_leave_nothing_behind(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(valkey_url, timeout=1.0, namespace=namespace)
    assert await store.reserve("d1", [Want("push", "annual", 1)], 0.2) == {}
    assert await store.reserve("d2", [Want("push", "annual", 1)], 0.2) == {"push": 1}
    await asyncio.sleep(0.25)
    assert (await store.read("ann", SCHEMA, ["push"])).budgets == {"push": 0}
    assert await store.reserve("d2", [Want("push", "annual", 1)], 0.2) == {}
    await store.apply(Event("e2", "impression", "d2", "annual", "ann", "home", at=1001.0), ["push"])
    _, leases, confirmed = Keys(namespace).budget("push")
    assert admin.ttl(leases) == -2
    assert 0 < admin.ttl(confirmed) <= 2
    await store.close()


async def test_events_packed_before_decisions_were_marked_are_still_read(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(valkey_url, timeout=1.0, namespace=namespace)
    admin.hset(Keys(namespace).history("ann"), "e0", msgspec.msgpack.encode((5.0, "click", "annual", "home")))
    assert [event.at for event in (await store.read("ann", SCHEMA, own="d1")).history] == [5.0]
    await store.close()
