"""The breaker: no request waits for a store that is down, and nothing is lost meanwhile."""

import asyncio
import socket
import time

import pytest
import uvloop

from decisioning.domain import Event, Facts
from features.schema import Schema
from serving import breaker
from serving.breaker import UNREAD, GuardedStore, within
from stores.online.port import StoreDown

SCHEMA = Schema(())
EVENT = Event("e", "impression", "d", "offer", "user", "banner", 0.0)


class Moody:
    """A store that answers, fails or hangs, as it is told."""

    mood = "well"

    def __init__(self) -> None:
        self.reads = 0
        self.applied: list[Event] = []

    async def read(self, user, schema, budgets=()) -> Facts:
        self.reads += 1
        await self._suffer()
        return Facts(features={"seen": True}, killed=frozenset({"bad"}))

    async def apply(self, event, budgets=()) -> bool:
        await self._suffer()
        if event in self.applied:
            return False
        self.applied.append(event)
        return True

    async def close(self) -> None: ...

    async def _suffer(self) -> None:
        if self.mood == "hangs":
            await asyncio.sleep(60)
        if self.mood == "down":
            raise StoreDown("gone")
        if self.mood == "nonsense":
            raise ValueError("not even a StoreDown")


@pytest.fixture
def moody() -> Moody:
    return Moody()


def guarded(moody: Moody, story) -> None:
    async def told() -> None:
        store = GuardedStore(moody)
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(told())


async def read(store: GuardedStore) -> Facts:
    return await store.read("user", SCHEMA, (), 0.01)


async def until_back(store: GuardedStore) -> float:
    started = time.monotonic()
    while store.is_down:
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize("mood", ["down", "nonsense"])
def test_after_a_failure_no_request_touches_the_store_until_a_probe_succeeds(moody, mood):
    async def story(store):
        assert (await read(store)).features
        moody.mood = mood
        assert (await read(store)).degraded == ("store:down",)
        before = moody.reads
        for _ in range(100):
            assert (await read(store)).unread == UNREAD
        assert moody.reads == before
        moody.mood = "well"
        assert await until_back(store) < 2.0
        assert (await read(store)).features

    guarded(moody, story)


def test_a_slow_read_is_cut_at_its_deadline_and_only_several_open_the_breaker(moody):
    async def story(store):
        moody.mood = "hangs"
        started = time.monotonic()
        assert (await read(store)).degraded == ("store:slow",)
        assert time.monotonic() - started < 0.2
        assert not store.is_down
        started = time.monotonic()
        while not store.is_down:
            await read(store)
            assert time.monotonic() - started < 1.0

    guarded(moody, story)


def test_many_slow_reads_in_one_moment_do_not_open_the_breaker(moody):
    async def story(store):
        moody.mood = "hangs"
        answers = await asyncio.gather(*(read(store) for _ in range(10 * breaker.SLOW_READS)))
        assert {one.degraded for one in answers} == {("store:slow",)}
        assert not store.is_down

    guarded(moody, story)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stall_of_our_own_does_not_cost_an_answer_that_has_arrived(new_loop):
    async def story():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            reading = asyncio.create_task(within(0.01, asyncio.get_running_loop().sock_recv(ours, 9)))
            await asyncio.sleep(0)
            theirs.send(b"an answer")
            time.sleep(0.03)  # past the deadline, with the loop at a standstill
            assert await reading == b"an answer"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())


def test_slow_reads_among_good_ones_never_open_the_breaker(moody):
    async def story(store):
        for _ in range(2 * breaker.SLOW_READS):
            moody.mood = "hangs"
            await read(store)
            moody.mood = "well"
            assert (await read(store)).features

    guarded(moody, story)


def test_the_kill_switches_that_were_read_last_still_hold(moody):
    async def story(store):
        await read(store)
        moody.mood = "down"
        assert (await read(store)).killed == {"bad"}

    guarded(moody, story)


def test_events_of_the_outage_are_counted_when_the_store_is_back(moody):
    async def story(store):
        moody.mood = "down"
        assert await store.apply(EVENT, ("winter",), SCHEMA) is None
        assert await store.apply(EVENT, ("winter",), SCHEMA) is None, "the second doesn't even try"
        assert store.is_down
        moody.mood = "well"
        await until_back(store)
        assert moody.applied == [EVENT]
        assert await store.apply(EVENT, (), SCHEMA) is False

    guarded(moody, story)


def test_a_write_that_hangs_opens_the_breaker(moody, monkeypatch):
    monkeypatch.setattr(breaker, "APPLY_TIMEOUT", 0.02)

    async def story(store):
        moody.mood = "hangs"
        assert await store.apply(EVENT, (), SCHEMA) is None
        assert store.is_down

    guarded(moody, story)
