"""The breaker: no request waits for a store that is down, nothing is lost meanwhile, and reads go on where they can."""

import asyncio
import time
from dataclasses import replace

import pytest

from decisioning.domain import Event, Facts, HistoryEvent
from features.schema import Schema
from serving.guarded import backlog, circuit
from serving.guarded.breaker import READ_ONLY, UNREAD, GuardedStore
from serving.guarded.circuit import State
from stores.online.budgets import Want
from stores.online.port import PartDown, ReadOnly, StoreDown, TooSlow

SCHEMA = Schema(())
EVENT = Event("e", "impression", "d", "offer", "user", "banner", 0.0)
SEEN = HistoryEvent("impression", "offer", "banner", 0.0)
WANTS = (Want("few", "offer", 1),)


class Moody:
    """A store that answers, fails or hangs, as it is told; and keeps its deadlines."""

    mood = "well"

    def __init__(self) -> None:
        self.reads = self.writes = 0
        self.applied: list[Event] = []

    async def read(self, user, schema, budgets=(), own="", *, timeout) -> Facts:
        self.reads += 1
        await self._suffer(timeout)
        if self.mood == "reads no switches":
            return Facts(unread=frozenset({"killed"}))
        return Facts(features={"seen": True}, killed=frozenset({"bad"}))

    async def apply(self, event, budgets=(), *, timeout) -> bool:
        await self._write(timeout)
        if event in self.applied:
            return False
        self.applied.append(event)
        return True

    async def reserve(self, decision_id, wants, lasts, *, timeout) -> dict:
        await self._write(timeout)
        return {}

    async def read_again(self, user, schema, budgets, decision_id, *, timeout) -> tuple[Facts, bytes]:
        return await self.read(user, schema, budgets, timeout=timeout), b"what was answered"

    async def remember(self, user, decision_id, answer, lasts, instead_of=None, *, timeout) -> None:
        await self._write(timeout)

    async def close(self) -> None: ...

    async def _write(self, timeout) -> None:
        self.writes += 1
        await self._suffer(timeout)
        if self.mood == "full":
            raise ReadOnly("no more")
        if self.mood == "in part":
            raise PartDown("a node is gone")

    async def _suffer(self, timeout) -> None:
        if self.mood == "hangs":
            await asyncio.sleep(timeout)
            raise TooSlow("not yet")
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


async def until(holds, seconds: float = 2.0) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds
        await asyncio.sleep(0.01)


def is_well(store: GuardedStore):
    return lambda: store.state is State.CLOSED and not store.waiting


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
        await until(is_well(store))
        assert (await read(store)).features
        assert store.outcomes == {"ok": 2, "store:down": 101}
        assert store.entered == {State.OPEN: 1, State.CLOSED: 1}

    guarded(moody, story)


def test_a_slow_read_is_answered_at_its_deadline_and_only_several_open_the_breaker(moody):
    async def story(store):
        moody.mood = "hangs"
        assert (await read(store)).degraded == ("store:slow",)
        assert not store.is_down
        started = time.monotonic()
        while not store.is_down:
            await read(store)
            assert time.monotonic() - started < 2.0

    guarded(moody, story)


def test_many_slow_reads_in_one_moment_do_not_open_the_breaker(moody):
    async def story(store):
        moody.mood = "hangs"
        answers = await asyncio.gather(*(read(store) for _ in range(10 * circuit.SLOW_ANSWERS)))
        assert {one.degraded for one in answers} == {("store:slow",)}
        assert not store.is_down

    guarded(moody, story)


def test_slow_reads_among_good_ones_never_open_the_breaker(moody, monkeypatch):
    monkeypatch.setattr(circuit, "SLOW_SECONDS", 0.0)

    async def story(store):
        for _ in range(3):
            for _ in range(circuit.SLOW_ANSWERS - 1):
                moody.mood = "hangs"
                await read(store)
            moody.mood = "well"
            assert (await read(store)).features
        assert not store.is_down

    guarded(moody, story)


@pytest.mark.parametrize("mood", ["down", "reads no switches"])
def test_the_kill_switches_that_were_read_last_still_hold(moody, mood):
    async def story(store):
        await read(store)
        moody.mood = mood
        assert (await read(store)).killed == {"bad"}

    guarded(moody, story)


def test_events_of_the_outage_are_counted_once_when_the_store_is_back(moody):
    async def story(store):
        moody.mood = "down"
        for _ in range(2):
            assert await store.apply(EVENT, ("winter",)) is None
        assert (store.is_down, store.waiting, store.trouble) == (True, 1, "store:down")
        moody.mood = "well"
        await until(is_well(store))
        assert moody.applied == [EVENT]
        assert await store.apply(EVENT, ()) is False

    guarded(moody, story)


def test_what_a_user_did_later_never_overtakes_what_waits(moody):
    """Of somebody else nothing waits."""
    later, other = replace(EVENT, event_id="later"), replace(EVENT, user="other")

    async def story(store):
        moody.mood = "in part"
        assert await store.apply(EVENT, ()) is None
        moody.mood = "well"
        assert await store.apply(later, ()) is None
        assert await store.apply(other, ()) is True
        await until(is_well(store))
        assert moody.applied == [other, EVENT, later]

    guarded(moody, story)


def test_a_write_that_hangs_opens_the_breaker_where_nothing_else_is_answered(moody, monkeypatch):
    monkeypatch.setattr("serving.guarded.breaker.APPLY_TIMEOUT", 0.02)

    async def story(store):
        moody.mood = "hangs"
        assert await store.apply(EVENT, ()) is None
        assert store.is_down

    guarded(moody, story)


def test_a_write_that_is_slow_while_others_are_answered_only_waits(moody, monkeypatch):
    monkeypatch.setattr("serving.guarded.breaker.APPLY_TIMEOUT", 0.05)

    async def story(store):
        moody.mood = "hangs"
        writing = asyncio.create_task(store.apply(EVENT, ()))
        await asyncio.sleep(0)
        moody.mood = "well"
        assert (await read(store)).features
        assert await writing is None
        assert (store.state, store.waiting, store.trouble) == (State.CLOSED, 1, "store:slow")
        other = replace(EVENT, user="another", event_id="f")
        before = moody.writes
        assert await store.apply(other, ()) is None
        assert moody.writes == before, "nobody else waits for as long"
        await until(is_well(store))
        assert moody.applied == [EVENT, other]
        assert await store.apply(replace(other, event_id="g"), ())

    guarded(moody, story)


def test_a_store_that_takes_no_writes_is_still_read_and_says_so(moody):
    async def story(store):
        moody.mood = "full"
        assert await store.apply(EVENT, ()) is None
        assert (store.state, store.trouble) == (State.READ_ONLY, READ_ONLY)
        facts = await read(store)
        assert (facts.features, facts.unread, facts.degraded) == ({"seen": True}, frozenset(), (READ_ONLY,))
        again, answer = await store.read_again("user", SCHEMA, (), 0.01, "d")
        assert (again.features, answer) == ({"seen": True}, b"what was answered")

    guarded(moody, story)


def test_while_writes_are_refused_no_request_tries_one_and_hard_budgets_are_closed(moody):
    async def story(store):
        moody.mood = "full"
        assert await store.reserve("d", WANTS, 60.0, 0.01) is None
        before = moody.writes
        assert await store.reserve("d", WANTS, 60.0, 0.01) is None
        assert await store.remember("user", "d", b"", 60.0, None, 0.01) is None
        assert await store.apply(EVENT, ()) is None
        assert moody.writes == before
        moody.mood = "well"
        await until(is_well(store))
        assert await store.reserve("d", WANTS, 60.0, 0.01) == {}
        assert moody.applied == [EVENT]

    guarded(moody, story)


def test_caps_know_of_the_events_that_wait_and_a_decision_does_not_find_its_own(moody):
    async def story(store):
        moody.mood = "full"
        await store.apply(EVENT, ())
        await store.apply(replace(EVENT, event_id="c", type="click"), ())
        await store.apply(replace(EVENT, event_id="b", user="bob"), ())
        click = replace(SEEN, type="click")
        assert (await read(store)).history == (SEEN, click)
        assert (await store.read_again("user", SCHEMA, (), 0.01, "d"))[0].history == (click,)

    guarded(moody, story)


def test_a_store_that_fails_after_it_refused_writes_is_down_and_then_only_read_again(moody):
    async def story(store):
        moody.mood = "full"
        await store.apply(EVENT, ())
        moody.mood = "down"
        assert (await read(store)).degraded == ("store:down",)
        moody.mood = "full"
        await until(lambda: store.state is State.READ_ONLY)
        assert (await read(store)).history == (SEEN,)
        moody.mood = "well"
        await until(is_well(store))

    guarded(moody, story)


def test_what_finds_no_room_among_what_waits_closes_every_cap_and_is_counted(moody, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BACKLOG", 3)

    async def story(store):
        moody.mood = "full"
        for number in range(5):
            await store.apply(replace(EVENT, event_id=f"e{number}"), ())
        assert (store.waiting, store.missed) == (3, 2)
        facts = await store.read("somebody else", SCHEMA, (), 0.01)
        assert (facts.unread, facts.degraded) == ({"history"}, ("history:unread", READ_ONLY))
        moody.mood = "well"
        await until(is_well(store))
        assert (await read(store)).unread == frozenset()
        assert [one.event_id for one in moody.applied] == ["e2", "e3", "e4"]

    guarded(moody, story)


def test_what_waits_when_a_server_ends_is_applied_if_the_store_takes_it(moody):
    async def story(store):
        moody.mood = "full"
        await store.apply(EVENT, ())
        moody.mood = "well"

    guarded(moody, story)
    assert moody.applied == [EVENT]
