"""The store on Redis when its server, or the way to it, is not well: StoreDown in time, and well again at once."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from secrets import token_hex

import pytest
from redis import Redis
from small_store import EVENT, SCHEMA, TIMEOUT, store_at

from decisioning.domain import Event, Facts
from stores.embedded import running
from stores.online.budgets import Want
from stores.online.port import ReadOnly, StoreDown
from stores.online.redis_store import RedisStore
from stores.publishing.publish import publish
from stores.publishing.redis_store import RedisShelf

pytestmark = pytest.mark.anyio

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


async def test_what_is_wrong_says_which_store_and_never_its_password():
    async with store_at("redis://ann:secret@127.0.0.1:1") as store:
        with pytest.raises(StoreDown, match=r"\(127\.0\.0\.1:1\)$") as told:
            await store.read("ann", SCHEMA)
    assert "secret" not in str(told.value)
