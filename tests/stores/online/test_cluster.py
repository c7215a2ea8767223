"""The store on a cluster when nodes die, hang, move their slots or fail over: who is not concerned goes on."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from secrets import token_hex

import pytest
from redis.crc import key_slot
from servers import CLUSTERED, HOST, Cluster, Server, cluster, redis_server

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event
from features.schema import Schema
from serving.guarded.breaker import GuardedStore
from stores.connect import connect
from stores.embedded import embedded_binary
from stores.online.budgets import Want
from stores.online.layout import Keys, Pointer, Version, bucket_of, field_of
from stores.online.port import PartDown, StoreDown
from stores.online.redis_store import RedisStore

pytestmark = pytest.mark.anyio

SCHEMA = Schema((FeatureSpec("build", FeatureType.INT),))
BUDGET = "winter"
TIMEOUT = 0.5
RECOVERED_WITHIN = 2.0


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A cluster of this module's own, to be maltreated."""
    with cluster(Path(tmp_path_factory.mktemp("own"))) as made:
        yield made


@pytest.fixture
def places(own_cluster) -> "Places":
    own_cluster.wait_until_whole()  # whatever the test before did to it
    return Places(own_cluster)


class Places:
    """Where keys are, and users that are where they are wanted."""

    def __init__(self, made: Cluster) -> None:
        self.cluster = made
        self.keys = Keys(f"test-{token_hex(6)}")
        self.of = cache(made.owner)

    def user_on(self, node: Server) -> str:
        users = (f"{token_hex(4)}-{number}" for number in count())
        return next(user for user in users if self.of(self.keys.history(user)) is node)

    def other_than(self, *nodes: Server) -> Server:
        return next(node for node in self.cluster.nodes if node not in nodes)

    @property
    def shared(self) -> set[Server]:
        """The nodes that every request needs."""
        keys = (self.keys.current, self.keys.killed, self.keys.budget(BUDGET)[0])
        return {self.of(key) for key in keys}


def event_of(user: str, event_id: str = "e1") -> Event:
    return Event(event_id, "impression", "d1", "annual", user, "home", at=1000.0)


@asynccontextmanager
async def store_of(places: Places, timeout: float = TIMEOUT):
    store = RedisStore(places.cluster.url, timeout=timeout, namespace=places.keys.namespace)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def dead(node: Server, places: "Places"):
    """Killed, and then there again, with the others agreed about it (which takes them two seconds)."""
    node.kill()
    try:
        yield
    finally:
        assert node.start()
        places.cluster.wait_until_whole()


async def until(is_so, within: float = RECOVERED_WITHIN) -> float:
    """Seconds until something holds."""
    started = time.monotonic()
    while not await is_so():
        assert time.monotonic() - started < within, "not in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_users_of_a_dead_node_do_with_less_and_the_others_notice_nothing(places):
    victim = places.cluster.nodes[0]
    ann, bob = places.user_on(victim), places.user_on(places.cluster.nodes[1])
    async with store_of(places) as store:
        for user in (ann, bob):
            assert await store.apply(event_of(user))
        async with dead(victim, places):
            for attempt in range(3):
                started = time.monotonic()
                facts = await store.read(ann, SCHEMA)
                assert "history" in facts.unread, attempt
                assert "history:unread" in facts.degraded
                assert (await store.read(bob, SCHEMA)).history, attempt
                assert time.monotonic() - started < 2 * TIMEOUT
            with pytest.raises(PartDown):
                await store.apply(event_of(ann, "e2"))
            assert await store.apply(event_of(bob, "e2"))

        async def is_back() -> bool:
            return "history" not in (await store.read(ann, SCHEMA)).unread

        await until(is_back)
        assert await store.apply(event_of(ann, "e2"))


async def test_what_a_node_that_is_down_holds_is_unread_and_nothing_else(places):
    """Whichever node it is: the bucket, the budgets, the kill switches, the user's history."""
    keys, version = places.keys, Version("v1", 1, 900.0, SCHEMA.hash, 1)
    ann = places.user_on(places.cluster.nodes[0])
    parts = {
        "history": keys.history(ann),
        "features": keys.bucket(version, 0),
        "budgets": keys.budget(BUDGET)[0],
        "killed": keys.killed,
    }
    with connect(places.cluster.url, 5.0) as client:
        client.hset(keys.bucket(version, 0), field_of(ann), SCHEMA.tag + SCHEMA.pack({"build": 7}))
        client.set(keys.current, Pointer(version).encode())
    async with store_of(places, timeout=0.2) as store:
        await store.apply(event_of(ann), [BUDGET])
        await store.kill("vinyl")
        whole = await store.read(ann, SCHEMA, [BUDGET])
        assert (whole.features, whole.unread, whole.degraded) == ({"build": 7}, frozenset(), ())

        async def is_read(expected: set[str]) -> bool:
            try:
                return (await store.read(ann, SCHEMA, [BUDGET])).unread == expected
            except StoreDown:  # nobody knows yet that it hangs
                return False

        for victim in places.cluster.nodes:
            lost = {part for part, key in parts.items() if places.of(key) is victim}
            with victim.hanging():
                await until(partial(is_read, lost))
                facts = await store.read(ann, SCHEMA, [BUDGET])
                assert set(facts.degraded) == {f"{part}:unread" for part in lost}
                assert (facts.features == whole.features) == ("features" not in lost)
                assert (facts.history == whole.history) == ("history" not in lost)
                assert (facts.budgets == whole.budgets) == ("budgets" not in lost)
                assert (facts.killed == whole.killed) == ("killed" not in lost)
            await until(partial(is_read, set()))


async def test_a_node_that_hangs_keeps_nobody_waiting_for_long(places):
    victim = next(node for node in places.cluster.nodes if node not in places.shared)
    ann = places.user_on(victim)
    bob = places.user_on(places.other_than(victim))
    async with store_of(places, timeout=5.0) as patient:
        for user in (ann, bob):
            assert await patient.apply(event_of(user))
    async with store_of(places, timeout=0.2) as store:
        guarded = GuardedStore(store)

        async def is_warm() -> bool:
            read = [await guarded.read(user, SCHEMA, (), 0.1) for user in (ann, bob)]
            return all(facts.history for facts in read)

        await until(is_warm)
        with victim.hanging():
            started, late, served, asked = time.monotonic(), 0, 0, 0
            while time.monotonic() - started < 0.8:
                before = time.monotonic()
                facts, other = await asyncio.gather(
                    guarded.read(ann, SCHEMA, (), 0.05), guarded.read(bob, SCHEMA, (), 0.05)
                )
                assert "history" in facts.unread
                late += time.monotonic() - before > 0.3
                asked, served = asked + 1, served + bool(other.history)
                await asyncio.sleep(0.005)
            assert late <= 1, "a busy machine, at most"
            assert served >= 0.9 * asked
            assert facts.unread == {"history"}, "known to hang by now"

        async def is_back() -> bool:
            return bool((await guarded.read(ann, SCHEMA, (), 0.1)).history)

        await until(is_back)
        await guarded.close()


async def test_all_nodes_dead_is_a_store_that_is_down_and_comes_back(places):
    ann = places.user_on(places.cluster.nodes[0])
    async with store_of(places) as store:
        assert await store.apply(event_of(ann))

        async def is_down() -> bool:
            try:
                assert "history" in (await store.read(ann, SCHEMA)).unread
            except StoreDown:
                return True
            return False

        for node in places.cluster.nodes:
            node.kill()
        await until(is_down)
        for node in places.cluster.nodes:
            assert node.start()
        places.cluster.wait_until_whole()

        async def is_back() -> bool:
            try:
                return not (await store.read(ann, SCHEMA)).unread
            except StoreDown:
                return False

        await until(is_back)


async def test_nodes_that_were_never_there_are_a_store_that_is_down():
    store = RedisStore("redis+cluster://127.0.0.1:1,127.0.0.1:2", timeout=TIMEOUT)
    with pytest.raises(StoreDown):
        await store.read("ann", SCHEMA)
    await store.close()


async def test_events_that_a_dead_node_missed_are_applied_once_when_it_is_back(places):
    victim = next(node for node in places.cluster.nodes if node not in places.shared)
    ann, bob = places.user_on(victim), places.user_on(places.other_than(victim))
    async with store_of(places) as store:
        guarded = GuardedStore(store)
        await guarded.warm(SCHEMA)
        async with dead(victim, places):
            for number in range(30):
                assert await guarded.apply(event_of(ann, f"e{number}"), (BUDGET,)) is None
                assert await guarded.apply(event_of(bob, f"e{number}"), (BUDGET,))
            assert not guarded.is_down
            assert (await guarded.read(bob, SCHEMA, [BUDGET], 0.1)).budgets == {BUDGET: 30}

        async def is_applied() -> bool:
            facts = await guarded.read(ann, SCHEMA, (), 0.1)
            return len(facts.history) == 30 and not guarded.waiting

        await until(is_applied, within=5.0)
        assert (await guarded.read(bob, SCHEMA, [BUDGET], 0.1)).budgets == {BUDGET: 60}
        await guarded.close()


@pytest.mark.heavy
async def test_a_replica_that_takes_over_is_found(tmp_path):
    with cluster(tmp_path / "made") as made:
        places = Places(made)
        master = made.nodes[2]
        ann = places.user_on(master)
        with redis_server(tmp_path / "replica", embedded_binary(), **CLUSTERED) as replica, replica.client() as client:
            made.meet(replica)
            with master.client() as at_master:
                name = at_master.execute_command("CLUSTER MYID").decode()
            await until(lambda: _knows(client, name), within=10.0)
            client.execute_command("CLUSTER REPLICATE", name)
            async with store_of(places) as store:
                assert await store.apply(event_of(ann))
                await until(lambda: _is_copy(client), within=20.0)
                master.kill()
                await until(lambda: _is_master(client), within=20.0)

                async def is_back() -> bool:
                    return bool((await store.read(ann, SCHEMA)).history)

                await until(is_back)
                assert await store.apply(event_of(ann, "e2"))
                assert len((await store.read(ann, SCHEMA)).history) == 2


async def _knows(client, name: str) -> bool:
    return name in str(client.execute_command("CLUSTER NODES"))


async def _is_copy(client) -> bool:
    return client.info("replication").get("master_link_status") == "up" and client.dbsize() > 0


async def _is_master(client) -> bool:
    return client.info("replication")["role"] == "master"


async def test_a_slot_on_its_way_to_another_node_and_arrived_there_is_followed(places):
    source, target = places.cluster.nodes[:2]
    ann = places.user_on(source)
    slot = key_slot(places.keys.history(ann).encode())
    async with store_of(places) as store:
        assert await store.apply(event_of(ann), [BUDGET])
        with source.client() as old, target.client() as new:
            theirs, ours = (one.execute_command("CLUSTER MYID").decode() for one in (new, old))
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ours)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", theirs)
            assert len((await store.read(ann, SCHEMA)).history) == 1, "not yet moved"
            for key in old.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                old.execute_command("MIGRATE", HOST, target.port, key, 0, 1000)
            assert len((await store.read(ann, SCHEMA)).history) == 1, "the old node says: ask the new one"
            for one in (new, old):
                one.execute_command("CLUSTER SETSLOT", slot, "NODE", theirs)
            for number in range(3):
                assert len((await store.read(ann, SCHEMA)).history) == 1 + number
                assert await store.apply(event_of(ann, f"later{number}"))

        async def is_known() -> bool:
            return store._wire._owners[slot].place[1] == target.port

        await until(is_known)  # and is asked at once from now on


async def test_a_slot_that_nobody_had_is_found_when_somebody_has_it(places):
    owner = places.cluster.nodes[1]
    ann = places.user_on(owner)
    slot = key_slot(places.keys.history(ann).encode())
    for node in places.cluster.nodes:
        with node.client() as client:
            client.execute_command("CLUSTER DELSLOTS", slot)
    async with store_of(places) as store:
        try:
            assert "history" in (await store.read(ann, SCHEMA)).unread
        finally:
            with owner.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", slot)

        async def is_found() -> bool:
            return not (await store.read(ann, SCHEMA)).unread

        await until(is_found)
        assert await store.apply(event_of(ann))
    places.cluster.wait_until_whole()


async def test_many_users_of_all_nodes_read_and_write_at_once(places):
    async with store_of(places, timeout=5.0) as store:
        users = [token_hex(8) for _ in range(60)]
        assert all(await asyncio.gather(*(store.apply(event_of(user), [BUDGET]) for user in users)))
        read = await asyncio.gather(*(store.read(user, SCHEMA, [BUDGET]) for user in users))
        assert [len(facts.history) for facts in read] == [1] * 60
        assert {facts.budgets[BUDGET] for facts in read} == {60}
        assert await store.reserve("d9", [Want(BUDGET, "annual", 61), Want("other", "annual", 1)], 60.0) == {}
        again = await asyncio.gather(*(store.apply(replace(event_of(user), at=2000.0), [BUDGET]) for user in users))
        assert not any(again)
        assert (await store.read(users[0], SCHEMA, [BUDGET])).budgets == {BUDGET: 61}


def test_the_keys_of_every_script_share_a_slot():
    keys = Keys("segue")
    user = [keys.history("u"), keys.trimmed("u"), keys.owed("u"), keys.fresh("u"), keys.answer("u", "d")]
    budgets = [keys.counted, *keys.budget("one"), *keys.budget("two")]
    for together in (user, budgets):
        assert len({key_slot(key.encode()) for key in together}) == 1
    assert bucket_of(field_of("u"), 7) < 7
