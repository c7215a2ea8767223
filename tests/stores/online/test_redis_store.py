"""The store on Redis when its server, or the way to it, is not well: StoreDown in time, and well again at once."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from secrets import token_hex

import msgspec
import pytest
from namespaces import namespace
from redis import Redis

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event, Facts
from decisioning.errors import UserError
from features.schema import Schema
from serving.breaker import GuardedStore
from stores.connect import connect
from stores.embedded import running
from stores.online.budgets import Want
from stores.online.layout import Keys
from stores.online.port import Damaged, ReadOnly, StoreDown
from stores.online.redis_store import RedisStore
from stores.online.switches import killed
from stores.publishing.publish import publish
from stores.publishing.redis_store import EXPIRE_SECONDS, RedisShelf

pytestmark = pytest.mark.anyio

SCHEMA = Schema((FeatureSpec("build", FeatureType.INT),))
EVENT = Event("e1", "impression", "d1", "annual", "ann", "home", at=1000.0)
TIMEOUT = 0.1
RECOVERED_WITHIN = 2.0


@pytest.fixture(scope="module")
def own_url(tmp_path_factory) -> Iterator[str]:
    """A server of this module's own, to be maltreated."""
    with running(tmp_path_factory.mktemp("own")) as url:
        yield url


@pytest.fixture
def admin(own_url) -> Iterator[Redis]:
    with Redis.from_url(own_url, protocol=2) as client:
        yield client


@asynccontextmanager
async def store_at(url: str, timeout: float = TIMEOUT):
    store = RedisStore(url, timeout=timeout, namespace=f"test-{token_hex(6)}")
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def fake_server(folder, *answer: bytes, pause: float = 0.0):
    """Answers every message with the same pieces, and a pause after each."""

    async def serve(reader, writer):
        with suppress(ConnectionError):
            while await reader.read(65536):
                for piece in answer:
                    writer.write(piece)
                    await asyncio.sleep(pause)
        writer.close()

    address = folder / "fake.sock"
    server = await asyncio.start_unix_server(serve, address)
    yield f"unix://{address}"
    server.close()


async def assert_down(store: RedisStore) -> None:
    for call in (
        store.read("ann", SCHEMA, ["push"] * 9),
        store.apply(EVENT),
        store.reserve("d1", [Want("push", "annual", 1)], 600.0),
        store.recall("ann", "d1"),
        store.remember("ann", "d1", b"answer", 60.0),
        store.kill("annual"),
        store.revive("annual"),
    ):
        started = time.monotonic()
        with pytest.raises(StoreDown):
            await call
        assert time.monotonic() - started < TIMEOUT + 0.5


async def read_again(store: RedisStore) -> Facts:
    """What is read once the store is back: no read waits for that, so it is asked until then."""
    async with asyncio.timeout(RECOVERED_WITHIN):
        while True:
            with suppress(StoreDown):
                return await store.read("ann", SCHEMA)
            await asyncio.sleep(0.02)


async def test_a_server_that_is_not_there_is_down(tmp_path):
    for url in (f"unix://{tmp_path}/nobody.sock", "redis://127.0.0.1:1"):
        async with store_at(url) as store:
            await assert_down(store)


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\x00\xff\x80garbage\r\n",
        b"$99999999999999999999\r\n",
        b"*-5\r\n",
        b":42\r\n" * 9,
        b"$3\r\nabc\r\n" * 9,
        b"*1\r\n$3\r\nabc\r\n" * 9,
    ],
)
async def test_a_server_that_answers_nonsense_or_refuses_is_down(tmp_path, answer):
    async with fake_server(tmp_path, answer) as url, store_at(url) as store:
        with pytest.raises(StoreDown):
            await store.read("ann", SCHEMA, ["push"])


async def test_a_server_that_never_answers_or_trickles_is_down_in_time(tmp_path):
    async with fake_server(tmp_path, b"") as url, store_at(url) as store:
        await assert_down(store)
    for piece in (b"1", b"*0\r\n", b"$-1\r\n"):
        async with fake_server(tmp_path, b"*0\r\n", *[piece] * 20, pause=TIMEOUT * 0.8) as url, store_at(url) as store:
            await assert_down(store)


async def test_a_stopped_server_is_down_and_well_again_when_it_continues(own_url, admin):
    server = admin.info("server")["process_id"]
    async with store_at(own_url, timeout=0.3) as store:
        assert await store.apply(EVENT)
        os.kill(server, signal.SIGSTOP)
        try:
            await assert_down(store)
        finally:
            os.kill(server, signal.SIGCONT)
        assert len((await read_again(store)).history) == 1


async def test_a_server_out_of_memory_is_down_for_writing_and_still_read(own_url, admin):
    async with store_at(own_url, timeout=1.0) as store:
        assert await store.apply(EVENT)
        admin.config_set("maxmemory", 1)
        try:
            with pytest.raises(ReadOnly, match=r"OutOfMemory|OOM"):
                await store.apply(Event("e2", "click", "d1", "annual", "ann", "home", at=1001.0))
            assert len((await store.read("ann", SCHEMA)).history) == 1
        finally:
            admin.config_set("maxmemory", 0)
        assert await store.apply(Event("e2", "click", "d1", "annual", "ann", "home", at=1001.0))


async def test_a_replica_is_down_for_writing_and_still_read(own_url, admin):
    async with store_at(own_url, timeout=1.0) as store:
        assert await store.apply(EVENT)
        admin.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(ReadOnly, match=r"(?i)read.?only"):
                await store.apply(Event("e2", "click", "d1", "annual", "ann", "home", at=1001.0))
            assert len((await store.read("ann", SCHEMA)).history) == 1
        finally:
            admin.replicaof("NO", "ONE")


async def test_a_restarted_server_is_found_in_the_background_with_what_it_held(tmp_path):
    with running(tmp_path) as url:
        store = RedisStore(url, timeout=1.0)
        assert await store.apply(EVENT)
    with pytest.raises(StoreDown):
        await store.read("ann", SCHEMA)
    with running(tmp_path):
        assert len((await read_again(store)).history) == 1
        await store.close()


async def test_a_damaged_history_counts_as_unread_so_that_caps_fail_closed_for_its_user_alone(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(own_url, timeout=1.0, namespace=namespace, history_limit=2)
    admin.hset(Keys(namespace).history("ann"), "e0", b"\xc1garbage")
    facts = await store.read("ann", SCHEMA)
    assert (facts.unread, facts.history) == ({"history"}, ())
    assert "history:corrupt" in facts.degraded
    assert (await store.read("bob", SCHEMA)).unread == frozenset()
    for number in (1, 2):  # damage goes first when the history is full
        await store.apply(Event(f"e{number}", "click", "d1", "annual", "ann", "home", at=float(number)))
    assert [event.at for event in (await store.read("ann", SCHEMA)).history] == [1.0, 2.0]
    await store.close()


async def test_a_reader_that_slept_through_two_snapshots_misses_nothing(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    shelf, store = (
        RedisShelf(admin, namespace),
        RedisStore(own_url, timeout=1.0, namespace=namespace, refresh_seconds=0.0),
    )
    for build in (1, 2, 3):
        packed = SCHEMA.pack({"build": build})
        publish(shelf, [("ann", packed)], schema=SCHEMA, as_of=0.0, snapshot_id=f"s{build}", count=1)
        if build == 1:
            assert (await store.read("ann", SCHEMA)).features == {"build": 1}
    assert admin.delete(f"{namespace}:fs:s1:0") == 1
    assert (await store.read("ann", SCHEMA)).features == {"build": 3}
    await store.close()


def test_versions_that_nobody_reads_any_more_expire(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    for build in (1, 2, 3):
        packed = SCHEMA.pack({"build": build})
        publish(own_url, [("ann", packed)], schema=SCHEMA, as_of=0.0, snapshot_id=f"s{build}", count=1,
                namespace=namespace)  # fmt: skip
    assert EXPIRE_SECONDS[0] <= admin.ttl(f"{namespace}:fs:s1:0") <= EXPIRE_SECONDS[1]
    assert [admin.ttl(f"{namespace}:fs:s{build}:0") for build in (2, 3)] == [-1, -1]
    assert set(admin.hkeys(Keys(namespace).versions)) == {b"s2", b"s3"}


def test_many_users_are_kept_compactly(own_url):
    """Two hundred bytes a user of forty features is what the design counts on; plain hashes take over five hundred."""
    schema = Schema(tuple(FeatureSpec(f"f{number:02}", FeatureType.FLOAT) for number in range(40)))
    packed = schema.pack({})
    rows = ((f"{number:032x}", packed) for number in range(5000))
    result = publish(own_url, rows, schema=schema, as_of=0.0, snapshot_id="s", count=5000, namespace=token_hex(6))
    assert result.bytes_per_user < 220


async def test_a_history_expires_when_nothing_more_comes(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(own_url, timeout=1.0, namespace=namespace)
    await store.apply(EVENT)
    assert 89 * 86_400 < admin.ttl(Keys(namespace).history("ann")) <= 90 * 86_400
    await store.close()


async def test_a_late_answer_never_reaches_another_question(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    rows = [(f"user{number}", SCHEMA.pack({"build": number})) for number in range(40)]
    publish(RedisShelf(admin, namespace), rows, schema=SCHEMA, as_of=0.0, snapshot_id="s", count=40)
    hasty = RedisStore(own_url, timeout=0.01, namespace=namespace)

    async def ask(number: int) -> bool:
        try:
            facts = await hasty.read(f"user{number}", SCHEMA)
        except StoreDown:
            return False
        if "features" in facts.unread:  # it learned which version is current, and had no time left for the vector
            return False
        assert facts.features == {"build": number}
        return True

    answered = []
    for _ in range(30):
        admin.client_pause(random.randint(1, 15), all=True)
        answered += await asyncio.gather(*map(ask, range(40)))
        answered += [await ask(number) for number in range(10)]
    assert {True, False} == set(answered)
    await hasty.close()


@pytest.mark.parametrize("server", ["own_url", "cluster_url"])
async def test_what_reads_of_one_turn_have_in_common_is_asked_once(server, request, three_nodes):
    """And whoever gives up, or has no time left, takes nothing from the others."""
    url = request.getfixturevalue(server)
    nodes = [node.url for node in three_nodes.nodes] if server == "cluster_url" else [url]

    def calls() -> Counter[str]:
        found: Counter[str] = Counter()
        for node in nodes:
            with Redis.from_url(node, protocol=2) as client:
                found.update({name: one["calls"] for name, one in client.info("commandstats").items()})
        return found

    async with store_at(url, timeout=5.0) as store:
        await store.kill("annual")
        await store.apply(EVENT, ["push", "mail"])
        await store.read("ann", SCHEMA)
        before = calls()
        hasty = asyncio.create_task(store.read("ann", SCHEMA, ["push"]))
        late = asyncio.create_task(store.read("ann", SCHEMA, ["push"], timeout=0.0))
        reads = [asyncio.create_task(store.read(f"user{n}", SCHEMA, ["push", "mail"][: n % 3])) for n in range(30)]
        await asyncio.sleep(0)
        hasty.cancel()
        for number, facts in enumerate(await asyncio.gather(*reads)):
            assert facts.killed == {"annual"}
            assert facts.budgets == dict.fromkeys(["push", "mail"][: number % 3], 1)
        with suppress(StoreDown):
            assert (await late).killed == {"annual"}
        assert hasty.cancelled()
        asked = calls() - before
        assert asked["cmdstat_smembers"] == 1
        assert asked["cmdstat_zcount"] == 3, "one budget, and two"
        assert asked["cmdstat_hvals"] in (30, 31)


async def test_leases_end_by_the_servers_own_clock_and_leave_nothing_behind(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(own_url, timeout=1.0, namespace=namespace)
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


async def test_a_damaged_counter_hands_nothing_out(own_url, admin):
    async with store_at(own_url) as store:
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
async def test_a_key_of_another_kind_costs_its_own_user_alone_and_never_the_store(own_url, admin, kind):
    key, said = WRONG[kind]
    async with store_at(own_url, timeout=1.0) as store:
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
async def test_a_shared_key_of_another_kind_is_degraded_and_not_a_store_that_is_down(own_url, admin, kind):
    async with store_at(own_url, timeout=1.0) as store:
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
async def test_bytes_that_are_no_text_or_no_number_are_never_a_store_that_is_down(own_url, admin, kind):
    async with store_at(own_url, timeout=1.0) as store:
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


async def test_a_damaged_set_of_kill_switches_is_not_taken_for_an_empty_one(own_url, admin):
    async with store_at(own_url, timeout=1.0) as store:
        guarded = GuardedStore(store)
        await guarded.warm(SCHEMA)
        await store.kill("annual")
        assert (await guarded.read("ann", SCHEMA, (), 1.0)).killed == {"annual"}
        admin.set(store._keys.killed, "what")
        assert (await guarded.read("ann", SCHEMA, (), 1.0)).killed == {"annual"}
        with pytest.raises(UserError, match="can't be asked"):
            await asyncio.to_thread(killed, own_url, store._keys.namespace)


async def test_a_pointer_that_is_no_pointer_leaves_the_version_that_was_read_before(own_url, admin):
    async with store_at(own_url, timeout=1.0) as store:
        shelf = RedisShelf(admin, store._keys.namespace)
        publish(shelf, [("ann", SCHEMA.pack({"build": 1}))], schema=SCHEMA, as_of=0.0, snapshot_id="s", count=1)
        await store.read("ann", SCHEMA)
        store._refresh_seconds = 0.0
        admin.set(store._keys.current, b"garbage")
        assert (await store.read("ann", SCHEMA)).features == {"build": 1}
    async with store_at(own_url, timeout=1.0) as store:
        admin.set(store._keys.current, b"garbage")
        assert (await store.read("ann", SCHEMA)).degraded == ("features:corrupt",)


async def test_events_packed_before_decisions_were_marked_are_still_read(own_url, admin):
    namespace = f"test-{token_hex(6)}"
    store = RedisStore(own_url, timeout=1.0, namespace=namespace)
    admin.hset(Keys(namespace).history("ann"), "e0", msgspec.msgpack.encode((5.0, "click", "annual", "home")))
    assert [event.at for event in (await store.read("ann", SCHEMA, own="d1")).history] == [5.0]
    await store.close()


async def test_what_is_wrong_says_which_store_and_never_its_password():
    async with store_at("redis://ann:secret@127.0.0.1:1") as store:
        with pytest.raises(StoreDown, match=r"\(127\.0\.0\.1:1\)$") as told:
            await store.read("ann", SCHEMA)
    assert "secret" not in str(told.value)
