"""An event changes a user's history and its budgets in two steps: once each, whatever dies between them."""

from collections.abc import AsyncIterator
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.domain import Event
from features.schema import Schema
from stores.connect import connect
from stores.online.budgets import Want
from stores.online.layout import Keys
from stores.online.port import StoreDown
from stores.online.redis_store import OWED_SECONDS, SETTLED_SECONDS, RedisStore, digest
from stores.online.scripts import APPLY, COUNT
from stores.online.wire import words

pytestmark = pytest.mark.anyio

SCHEMA = Schema(())
STEPS = ("apply", "count", "settle")
FAILURES = [None, *((step, is_done) for step in STEPS for is_done in (False, True))]
"""A step that fails: before anything was done, or with only its answer lost."""


class Flaky:
    """A wire on which one step fails. Also one server is taken for many here, which takes two steps."""

    is_one_server = False

    def __init__(self, store: RedisStore) -> None:
        self._wire, self.fails, self._scripts = store._wire, None, {}
        self.has_others = False

    async def ask(self, *commands, due):
        step = self._step(words(commands[0]))
        if self.fails and step == self.fails[0]:
            if self.fails[1]:
                await self._wire.ask(*commands, due=due)
            return [ConnectionError("told to")] * len(commands)
        return await self._wire.ask(*commands, due=due)

    def _step(self, said) -> str | None:
        scripts = {digest(APPLY): "apply", digest(COUNT): "count", APPLY: "apply", COUNT: "count"}
        return "settle" if said[0] == b"ZREM" else scripts.get(said[1].decode())

    async def close(self) -> None:
        await self._wire.close()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["valkey_url", "cluster_url"])
def url(request) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(url, clock) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, timeout=5.0, namespace=f"test-{token_hex(6)}", history_limit=5, clock=clock)
    store._wire = Flaky(store)
    yield store
    await store.close()


def event(event_id: str = "e1", user: str = "ann", at: float = 1000.0) -> Event:
    return Event(event_id, "impression", "d1", "annual", user, "home", at)


async def report(
    store: RedisStore, what: Event, fails: tuple[str, bool] | None = None, budget: str = "winter"
) -> bool | None:
    """None: the one who reported it does not know what became of it."""
    store._wire.fails = fails
    try:
        return await store.apply(what, [budget, f"{budget}2"])
    except StoreDown:
        return None
    finally:
        for task in [*store._settling]:
            await task
        store._wire.fails = None


async def units(store: RedisStore, user: str = "ann", budget: str = "winter") -> tuple[int, int]:
    """Events in the history, and units that are out of the budget."""
    facts = await store.read(user, SCHEMA, [budget])
    return len(facts.history), facts.budgets[budget]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["e1", "e2", "e3"]), st.sampled_from(FAILURES)), max_size=8), st.booleans())
async def test_whatever_fails_a_repetition_ends_it_and_nothing_counts_twice(store, clock, attempts, is_leased):
    user, budget = token_hex(4), token_hex(4)
    if is_leased:
        assert await store.reserve("d1", [Want(budget, "annual", 1)], 600.0) == {}
    seen: set[str] = set()
    for event_id, fails in attempts:
        await report(store, event(event_id, user), fails, budget)
        seen.add(event_id)
        clock.now += 1.0
        history, out = await units(store, user, budget)
        assert history <= len(seen)
        assert out <= (1 if is_leased else len(seen)), "the events of one lease are one unit"
    for event_id in seen:
        assert await report(store, event(event_id, user), budget=budget) is not None
        assert await report(store, event(event_id, user), budget=budget) is False
    assert await units(store, user, budget) == (len(seen), 1 if is_leased else len(seen))


async def test_an_event_in_the_history_that_no_budget_knows_of_is_counted_by_its_repetition(store):
    assert await report(store, event(), ("count", False)) is None
    assert await units(store) == (1, 0)
    assert await report(store, event()) is False
    assert await units(store) == (1, 1)


async def test_an_event_that_is_counted_but_whose_answer_was_lost_is_not_counted_again(store):
    for fails in (("count", True), ("settle", False), None, None):
        await report(store, event(), fails)
        assert await units(store) == (1, 1)


async def test_one_id_of_two_users_is_two_events(store):
    for user in ("ann", "bob"):
        assert await report(store, event(user=user), ("count", False)) is None
        assert await report(store, event(user=user)) is False
    assert await units(store) == (1, 2)


async def test_an_event_that_no_longer_fits_the_history_is_counted_by_its_repetition(store):
    for number in range(5):
        assert await report(store, event(f"e{number}", at=2000.0 + number))
    assert await report(store, event("old"), ("count", False)) is None
    assert await units(store) == (5, 5)
    assert await report(store, event("old")) is False
    assert await units(store) == (5, 6)


async def test_a_repetition_a_week_later_is_too_late_to_count_and_never_counts_twice(store, clock):
    await report(store, event("e1"), ("count", False))
    await report(store, event("e2"), ("count", True))
    clock.now += OWED_SECONDS + 1.0
    assert await report(store, event("e1")) is False
    assert await report(store, event("e2")) is False
    assert await units(store) == (2, 1)


async def test_what_is_settled_is_forgotten_minutes_later(store, clock, url):
    keys = store._keys
    for number in range(4):
        await report(store, event(f"e{number}"))
        clock.now += SETTLED_SECONDS + 1.0
    with connect(url, 5.0) as client:
        assert client.zcard(keys.owed("ann")) == 0
        assert client.zrange(keys.counted, 0, -1)[-1] == b"ann|e3"
        assert client.zcard(keys.counted) <= 3, "the last, and those that wait for their time"
    assert not await report(store, event("e0"))
    assert await units(store) == (4, 4)


async def test_events_that_bear_on_no_budget_leave_no_notes(store, url):
    store._wire.fails = None
    assert await store.apply(event())
    with connect(url, 5.0) as client:
        assert [*client.scan_iter(f"{store._keys.namespace}:*")] == [
            Keys(store._keys.namespace).history("ann").encode()
        ]
