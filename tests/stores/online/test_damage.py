"""Keys that hold what they should not: that costs what they hold and no more, and no store is down for it."""

import asyncio
from dataclasses import replace
from secrets import token_hex

import msgspec
import pytest
from namespaces import namespace
from small_store import EVENT, SCHEMA, store_at

from decisioning.domain import Event
from decisioning.errors import UserError
from serving.guarded.breaker import GuardedStore
from stores.connect import connect
from stores.online.budgets import Want
from stores.online.layout import Keys
from stores.online.port import Damaged
from stores.online.redis_store import RedisStore
from stores.online.switches import killed
from stores.publishing.publish import publish
from stores.publishing.redis_store import RedisShelf

pytestmark = pytest.mark.anyio


async def test_a_damaged_history_counts_as_unread_so_that_caps_fail_closed_for_its_user_alone(valkey_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(valkey_url, timeout=1.0, namespace=namespace, history_limit=2)
    admin.hset(Keys(namespace).history("ann"), "e0", b"\xc1garbage")
    facts = await store.read("ann", SCHEMA)
    assert (facts.unread, facts.history) == ({"history"}, ())
    assert "history:corrupt" in facts.degraded
    assert (await store.read("bob", SCHEMA)).unread == frozenset()
    for number in (1, 2):  # damage goes first when the history is full
        await store.apply(Event(f"e{number}", "click", "d1", "annual", "ann", "home", at=float(number)))
    assert [event.at for event in (await store.read("ann", SCHEMA)).history] == [1.0, 2.0]
    await store.close()


async def test_a_damaged_counter_hands_nothing_out(valkey_url, admin):
    async with store_at(valkey_url) as store:
        admin.set(store._keys.budget("push")[0], "many")
        with pytest.raises(Damaged):
            await store.reserve("d1", [Want("push", "annual", 1)], 600.0)
        assert await store.reserve("d1", [Want("other", "annual", 1)], 600.0) == {}
        facts = await store.read("ann", SCHEMA, ["push", "other"])
        assert (facts.budgets, facts.degraded[-1]) == ({"other": 1}, "budgets:corrupt")
        assert await store.apply(EVENT, ["push", "other"]), "what is damaged keeps the others from nothing"
        assert (await store.read("ann", SCHEMA, ["other"])).budgets == {"other": 1}


WRONG = {
    "history": (lambda keys: keys.history("ann"), {"history:corrupt"}),
    "trimmed": (lambda keys: keys.trimmed("ann"), set()),
    "fresh": (lambda keys: keys.fresh("ann"), {"fresh:corrupt:1"}),
    "answer": (lambda keys: keys.answer("ann", "d1"), set()),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_a_key_of_another_kind_costs_its_own_user_alone_and_never_the_store(valkey_url, admin, kind):
    key, said = WRONG[kind]
    async with store_at(valkey_url, timeout=1.0) as store:
        guarded = GuardedStore(store)
        admin.lpush(key(store._keys), "what", "is", "this")
        facts, answer = await guarded.read_again("ann", SCHEMA, ["push"], 1.0, "d1")
        assert (set(facts.degraded) - {"features:unpublished"}, answer) == (said, None)
        assert ("history" in facts.unread) == (kind == "history")
        await guarded.remember("ann", "d1", b"answer", 60.0, None, 1.0)
        applied = await guarded.apply(EVENT, ("push",))
        assert (applied is None) == (kind == "history"), "else caps would never bind for the user"
        assert not guarded.is_down
        assert not guarded._backlog, "no repetition would help"
        assert await guarded.apply(replace(EVENT, user="bob"), ("push",))
        assert admin.type(key(store._keys)) == b"list", "what is not ours is not touched"


@pytest.mark.parametrize("kind", ["bucket", "killed", "current"])
async def test_a_shared_key_of_another_kind_is_degraded_and_not_a_store_that_is_down(valkey_url, admin, kind):
    async with store_at(valkey_url, timeout=1.0) as store:
        shelf = RedisShelf(admin, store._keys.namespace)
        publish(shelf, [("ann", SCHEMA.pack({"build": 1}))], schema=SCHEMA, as_of=0.0, snapshot_id="s", count=1)
        assert (await store.read("ann", SCHEMA)).degraded == ()
        (bucket,) = admin.scan_iter(f"{store._keys.namespace}:fs:*")
        key = {"bucket": bucket, "killed": store._keys.killed, "current": store._keys.current}[kind]
        admin.delete(key)
        admin.lpush(key, "what")
        store._refresh_seconds = 0.0
        facts = await store.read("ann", SCHEMA)
        expected = {"bucket": ("features:corrupt",), "killed": ("killed:corrupt",), "current": ()}[kind]
        assert facts.degraded == expected
        assert (facts.features == {"build": 1}) == (kind != "bucket")
        assert ("killed" in facts.unread) == (kind == "killed"), "what was off stays off"


NOT_UTF8 = b"\x95\xcb\x3f\xf0\0\0\0\0\0\0\xaaimpression\xa1\xff\xa1y\0"
"""An impression of an offer whose name no text can have."""
GARBAGE = {
    "history": lambda admin, keys: admin.hset(keys.history("ann"), "e0", NOT_UTF8),
    "fresh": lambda admin, keys: admin.hset(keys.fresh("ann"), "build", msgspec.msgpack.encode((float("inf"), 1))),
    "killed": lambda admin, keys: admin.sadd(keys.killed, b"\xff", "annual"),
    "current": lambda admin, keys: admin.set(keys.current, b'{"current":{"name":"\xff"}}'),
    "buckets": lambda admin, keys: admin.set(
        keys.current, b'{"current":{"name":"a","buckets":0,"as_of":0,"schema":"","users":0}}'
    ),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_bytes_that_are_no_text_or_no_number_are_never_a_store_that_is_down(valkey_url, admin, kind):
    async with store_at(valkey_url, timeout=1.0) as store:
        shelf, guarded = RedisShelf(admin, store._keys.namespace), GuardedStore(store)
        rows = [(user, SCHEMA.pack({"build": 1})) for user in ("ann", "bob")]
        publish(shelf, rows, schema=SCHEMA, as_of=0.0, snapshot_id="s", count=2)
        assert (await guarded.read("ann", SCHEMA, (), 1.0)).features == {"build": 1}
        GARBAGE[kind](admin, store._keys)
        store._refresh_seconds = 0.0
        ann, bob = [await guarded.read(user, SCHEMA, (), 1.0) for user in ("ann", "bob")]
        assert not guarded.is_down
        assert (ann.features, bob.features, bob.degraded) == ({"build": 1}, {"build": 1}, ())
        assert ann.degraded == {"history": ("history:corrupt",), "fresh": ("fresh:corrupt:1",)}.get(kind, ())
        assert ("history" in ann.unread) == (kind == "history"), "caps close"
        assert ("annual" in bob.killed) == (kind == "killed")


@pytest.mark.parametrize("server", ["valkey_url", "debian_url", "cluster_url"])
async def test_damaged_notes_of_what_was_applied_keep_no_event_from_its_history_and_its_budgets(server, request):
    url = request.getfixturevalue(server)
    with namespace(url) as name, connect(url, 5.0) as admin:
        store, keys = RedisStore(url, timeout=5.0, namespace=name, history_limit=2), Keys(name)
        damaged = [keys.trimmed("ann"), keys.owed("ann"), keys.counted]
        for key in damaged:
            admin.lpush(key, "what")
        for number in range(4):
            event = replace(EVENT, event_id=f"n{number}", at=1000.0 + number)
            assert await store.apply(event, ["push"])
            assert await store.apply(event, ["push"]) is False
        facts = await store.read("ann", SCHEMA, ["push"])
        await store.close()
        assert ([event.at for event in facts.history], facts.budgets) == ([1002.0, 1003.0], {"push": 4})
        left = [key for key in damaged if admin.type(key) == b"list" and admin.ttl(key) == -1]
        assert left == damaged, "what is not ours is not touched"


async def test_a_damaged_set_of_kill_switches_is_not_taken_for_an_empty_one(valkey_url, admin):
    async with store_at(valkey_url, timeout=1.0) as store:
        guarded = GuardedStore(store)
        await guarded.warm(SCHEMA)
        await store.kill("annual")
        assert (await guarded.read("ann", SCHEMA, (), 1.0)).killed == {"annual"}
        admin.set(store._keys.killed, "what")
        assert (await guarded.read("ann", SCHEMA, (), 1.0)).killed == {"annual"}
        with pytest.raises(UserError, match="can't be asked"):
            await asyncio.to_thread(killed, valkey_url, store._keys.namespace)


async def test_a_pointer_that_is_no_pointer_leaves_the_version_that_was_read_before(valkey_url, admin):
    async with store_at(valkey_url, timeout=1.0) as store:
        shelf = RedisShelf(admin, store._keys.namespace)
        publish(shelf, [("ann", SCHEMA.pack({"build": 1}))], schema=SCHEMA, as_of=0.0, snapshot_id="s", count=1)
        await store.read("ann", SCHEMA)
        store._refresh_seconds = 0.0
        admin.set(store._keys.current, b"garbage")
        assert (await store.read("ann", SCHEMA)).features == {"build": 1}
    async with store_at(valkey_url, timeout=1.0) as store:
        admin.set(store._keys.current, b"garbage")
        assert (await store.read("ann", SCHEMA)).degraded == ("features:corrupt",)
