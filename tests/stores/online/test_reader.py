"""A read whose facts are made where its answers arrive: what it gives, and whom it keeps waiting."""

import asyncio
from secrets import token_hex

import pytest
from redis import Redis

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event, Facts
from features.schema import Schema
from serving.guarded.breaker import GuardedStore
from stores.online.layout import Keys, Pointer, Version
from stores.online.port import StoreDown, TooSlow
from stores.online.reader import Reading
from stores.online.redis_store import RedisStore

pytestmark = pytest.mark.anyio

SCHEMA = Schema((FeatureSpec("age", FeatureType.INT),))
USER = "0123456789abcdef" * 2
FIELD = bytes.fromhex(USER)
BUDGETS = ("push", "mail")


@pytest.fixture
def namespace() -> str:
    return f"test-{token_hex(6)}"


@pytest.fixture
def admin(valkey_url):
    with Redis.from_url(valkey_url, protocol=2) as client:
        yield client


@pytest.fixture
async def store(valkey_url, namespace):
    """One that knows which version is current."""
    async with asyncio.timeout(20.0):
        made = RedisStore(valkey_url, namespace=namespace, timeout=2.0, refresh_seconds=60.0)
        yield made
        await made.close()


def publish(admin: Redis, namespace: str, name: str, age: float) -> None:
    keys, version = Keys(namespace), Version(name, 1, 50.0, SCHEMA.hash, 1)
    admin.hset(keys.bucket(version, 0), FIELD, SCHEMA.tag + SCHEMA.pack({"age": age}))
    admin.set(keys.current, Pointer(version).encode())


async def test_it_is_asked_at_once_and_gives_what_the_long_way_gives(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    first = await store.read(USER, SCHEMA, BUDGETS)
    await store.apply(Event("e1", "click", "d1", "annual", USER, "home", 60.0), ["push"])
    readings = [store.read(USER, SCHEMA, budgets) for budgets in (BUDGETS, BUDGETS, (), ("mail",))]
    assert {type(one) for one in readings} == {Reading}
    told: list[Facts] = []
    readings[0].add_done_callback(lambda one: told.append(one.result()))
    found = await asyncio.gather(*readings)
    assert told == [found[0]]
    assert (first.features, first.history) == ({"age": 31}, ())
    assert found[0] == found[1] == await store.read(USER, SCHEMA, BUDGETS, "another decision")
    assert [one.budgets for one in found[2:]] == [{}, {"mail": 0}]
    assert found[0].budgets == {"push": 1, "mail": 0}
    assert [one.offer for one in found[0].history] == ["annual"]
    assert await readings[0] is readings[0].result(), "whoever comes later need not wait"


async def test_a_version_that_is_new_is_asked_about_again(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    await store.read(USER, SCHEMA)
    publish(admin, namespace, "v2", 32)
    store._refreshed = -1e9
    reading, other = store.read(USER, SCHEMA), store.read(USER, SCHEMA)
    assert type(reading) is Reading
    assert (await reading).features == (await other).features == {"age": 32}
    assert (await store.read(USER, SCHEMA)).features == {"age": 32}


async def test_another_schema_is_no_reason_to_mix_them_up(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    await store.read(USER, SCHEMA)
    other = Schema((FeatureSpec("height", FeatureType.INT),))
    for _ in range(2):
        found = await asyncio.gather(store.read(USER, SCHEMA), store.read(USER, other))
        assert [one.degraded for one in found] == [(), ("features:schema",)]


async def test_damage_costs_what_is_damaged(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    await store.read(USER, SCHEMA)
    admin.hset(Keys(namespace).history(USER), "e1", b"no event")
    admin.set(Keys(namespace).fresh(USER), b"no hash")
    found = await store.read(USER, SCHEMA)
    assert found == await store.read(USER, SCHEMA, (), "another decision")
    assert found.degraded == ("history:corrupt", "fresh:corrupt:1")
    admin.set(Keys(namespace).history(USER), b"no hash")
    assert (await store.read(USER, SCHEMA)) == await store.read(USER, SCHEMA, (), "another decision")
    admin.set(Keys(namespace).killed, b"no set")
    assert (await store.read(USER, SCHEMA)).unread == {"history", "killed"}


async def test_a_text_that_cant_be_sent_is_refused_where_it_is_awaited(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    await store.read(USER, SCHEMA)
    refused = store.read("\ud800", SCHEMA)
    with pytest.raises(StoreDown):
        await refused


async def test_who_gives_up_or_is_late_keeps_nobody_waiting(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    await store.read(USER, SCHEMA)
    given_up, late, other = store.read(USER, SCHEMA), store.read(USER, SCHEMA, timeout=0.0), store.read(USER, SCHEMA)
    assert given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        given_up.result()
    with pytest.raises(asyncio.InvalidStateError):
        other.result()
    assert (await other).features == {"age": 31}
    admin.client_pause(300)
    late = store.read(USER, SCHEMA, timeout=0.01)
    (wrong,) = await asyncio.gather(late, return_exceptions=True)
    assert type(wrong) is type(late.exception()) is TooSlow
    with pytest.raises(TooSlow):
        await late
    assert (await store.read(USER, SCHEMA)).features == {"age": 31}, "and no answer gets to another's question"


async def test_a_guarded_one_never_raises(store, admin, namespace):
    publish(admin, namespace, "v1", 31)
    guarded = GuardedStore(store)
    await store.read(USER, SCHEMA)
    reading = guarded.read(USER, SCHEMA, (), 1.0)
    assert type(reading) is Reading
    assert (await reading).features == {"age": 31}
    assert guarded.outcomes == {"ok": 1}
    reading = guarded.read(USER, SCHEMA, (), 1.0)
    await store.close()
    assert (await reading).degraded == ("store:down",)
    assert (await guarded.read(USER, SCHEMA, (), 1.0)).degraded == ("store:down",)
    assert guarded.outcomes == {"ok": 1, "store:down": 2}
    await guarded.close()
