"""What every store of budgets must do: units on lease, confirmed by impressions, never handed out twice."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from secrets import token_hex

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from namespaces import namespace

from decisioning.domain import Event
from features.schema import Schema
from stores.online.budgets import Want
from stores.online.memory_store import MemoryStore
from stores.online.port import OnlineStore
from stores.online.redis_store import RedisStore

pytestmark = pytest.mark.anyio

SCHEMA = Schema(())
LEASE = 600.0


@pytest.fixture
async def store(twin) -> AsyncIterator[OnlineStore]:
    store = twin.store()
    yield store
    await store.close()


def want(budget: str = "winter", offer: str = "annual", allowed: int = 2) -> Want:
    return Want(budget, offer, allowed)


def impression(decision_id: str, offer: str = "annual", event_id: str | None = None) -> Event:
    return Event(event_id or f"of {decision_id}", "impression", decision_id, offer, "ann", "home", at=1000.0)


async def out(store: OnlineStore, budget: str = "winter") -> int:
    return (await store.read("ann", SCHEMA, [budget])).budgets[budget]


async def test_a_unit_is_handed_out_as_long_as_one_is_left(store):
    assert await store.reserve("d1", [want()], LEASE) == {}
    assert await store.reserve("d2", [want()], LEASE) == {}
    assert await out(store) == 2
    assert await store.reserve("d3", [want()], LEASE) == {"winter": 2}
    assert await out(store) == 2


async def test_a_decision_that_asks_again_keeps_its_unit_and_takes_no_other(store):
    for _ in range(3):
        assert await store.reserve("d1", [want(allowed=1)], LEASE) == {}
    assert await out(store) == 1


async def test_a_lease_that_nobody_confirms_ends_and_its_unit_is_free_again(twin, store):
    await store.reserve("d1", [want(allowed=1)], LEASE)
    twin.clock.now += LEASE - 0.001
    assert await store.reserve("d2", [want(allowed=1)], LEASE) == {"winter": 1}
    twin.clock.now += 0.001
    assert await out(store) == 0
    assert await store.reserve("d2", [want(allowed=1)], LEASE) == {}


async def test_an_impression_confirms_its_lease_and_spends_no_other_unit(twin, store):
    await store.reserve("d1", [want()], LEASE)
    assert await store.apply(impression("d1"), ["winter"])
    assert await out(store) == 1
    twin.clock.now += 2 * LEASE
    assert await out(store) == 1, "what is spent stays spent"


async def test_an_impression_that_is_reported_again_is_still_one_unit(store):
    await store.reserve("d1", [want()], LEASE)
    assert await store.apply(impression("d1"), ["winter"])
    assert not await store.apply(impression("d1"), ["winter"])
    assert await store.apply(impression("d1", event_id="by another id"), ["winter"])
    assert await out(store) == 1
    assert await store.reserve("d1", [want(allowed=1)], LEASE) == {}, "the answer is asked for again"
    assert await out(store) == 1


async def test_an_impression_later_than_its_lease_is_a_unit_of_its_own(twin, store):
    await store.reserve("d1", [want(allowed=1)], LEASE)
    twin.clock.now += LEASE
    await store.reserve("d2", [want(allowed=1)], LEASE)
    await store.apply(impression("d1"), ["winter"])
    assert await out(store) == 2, "it was shown: nobody may take its place"
    twin.clock.now += LEASE
    assert await store.reserve("d3", [want(allowed=1)], LEASE) == {"winter": 1}


async def test_impressions_without_any_lease_are_counted_each(store):
    for number in range(3):
        await store.apply(impression("d1", event_id=f"e{number}"), ["soft"])
    assert await out(store, "soft") == 3


async def test_a_slate_gets_all_its_units_or_none(store):
    await store.reserve("d1", [want("scarce", "duo", 1)], LEASE)
    wants = [want("plenty", "annual", 10), want("scarce", "duo", 1)]
    assert await store.reserve("d2", wants, LEASE) == {"scarce": 1}
    assert await out(store, "plenty") == 0


async def test_two_offers_of_one_slate_take_two_units_of_a_budget_that_they_share(store):
    both = [want(offer="annual", allowed=3), want(offer="duo", allowed=3)]
    assert await store.reserve("d1", both, LEASE) == {}
    assert await out(store) == 2
    assert await store.reserve("d2", both, LEASE) == {"winter": 2}
    await store.apply(impression("d1", "duo"), ["winter"])
    assert await out(store) == 2


async def test_one_offer_may_need_units_of_several_budgets(store):
    assert await store.reserve("d1", [want("winter"), want("spring")], LEASE) == {}
    await store.apply(impression("d1"), ["winter", "spring"])
    assert (await out(store, "winter"), await out(store, "spring")) == (1, 1)


async def test_other_types_of_events_confirm_nothing(twin, store):
    await store.reserve("d1", [want()], LEASE)
    await store.apply(Event("e1", "click", "d1", "annual", "ann", "home", at=1000.0))
    twin.clock.now += LEASE
    assert await out(store) == 0


async def test_many_at_once_get_no_more_units_than_there_are(twin):
    servers = [twin.store() for _ in range(3)]
    asked = [servers[n % 3].reserve(f"d{n}", [want(allowed=10)], LEASE) for n in range(60)]
    granted = [n for n, short in enumerate(await asyncio.gather(*asked)) if not short]
    assert len(granted) == 10
    reported = [servers[n % 2].apply(impression(f"d{n}", event_id=f"e{n}.{m}"), ["winter"])
                for n in granted for m in range(2)]  # fmt: skip
    await asyncio.gather(*reported)
    assert await out(servers[2]) == 10
    for server in servers:
        await server.close()


# --- Any sequence


@dataclass
class Unit:
    """A unit that was handed out, as the model sees it."""

    who: tuple[str, str, str]
    ends: float
    spent: bool = False


@dataclass
class Model:
    """Budgets as slowly and plainly as can be: every unit that was ever handed out, and every impression without."""

    units: list[Unit] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    def out(self, budget: str, now: float) -> int:
        leased = [unit for unit in self.units if unit.who[0] == budget and (unit.spent or now < unit.ends)]
        return len(leased) + self.loose.count(budget)

    def held(self, who: tuple[str, str, str], now: float) -> Unit | None:
        return next((unit for unit in self.units if unit.who == who and now < unit.ends), None)


BUDGETS = {"tiny": 1, "small": 3, "paced": 5}
OFFERS = {"annual": ("tiny",), "duo": ("small", "paced"), "vinyl": ("small",)}
decisions = st.sampled_from([f"d{number}" for number in range(6)])
shown = st.lists(st.sampled_from(sorted(OFFERS)), min_size=1, max_size=3, unique=True)


class AnySequence(RuleBasedStateMachine):
    """The model and every twin, side by side, through decisions, impressions, repetitions, losses and time."""

    urls: tuple[str, ...] = ()
    namespace = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now, self.share, self.model = 1_000_000.0, 2, Model()
        self.seen: set[str] = set()
        self.stores: list[OnlineStore] = [MemoryStore(clock=lambda: self.now)]
        for url in self.urls:
            options = {"timeout": 5.0, "namespace": f"{self.namespace}-{token_hex(6)}", "clock": lambda: self.now}
            self.stores.append(RedisStore(url, **options))

    def everywhere(self, call):
        """What all the twins answer, who must agree."""
        answers = [self.runner.run(call(store)) for store in self.stores]
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]

    def allowed(self, budget: str) -> int:
        return self.share if budget == "paced" else BUDGETS[budget]

    @rule(decision=decisions, slate=shown, lasts=st.sampled_from([1.0, 60.0, LEASE]))
    def decide(self, decision, slate, lasts):
        wants = [Want(budget, offer, self.allowed(budget)) for offer in slate for budget in OFFERS[offer]]
        new: list[Unit] = []
        short = {}
        for one in wants:
            who = (one.budget, decision, one.offer)
            if self.model.held(who, self.now):
                continue
            taken = self.model.out(one.budget, self.now)
            if taken + sum(unit.who[0] == one.budget for unit in new) < one.allowed:
                new.append(Unit(who, self.now + lasts))
            else:
                short[one.budget] = taken
        self.model.units += [] if short else new
        assert self.everywhere(lambda store: store.reserve(decision, wants, lasts)) == short

    @rule(decision=decisions, offer=st.sampled_from(sorted(OFFERS)), report=st.integers(0, 2))
    def report(self, decision, offer, report):
        event = impression(decision, offer, f"{decision}.{offer}.{report}")
        is_new = event.event_id not in self.seen
        self.seen.add(event.event_id)
        for budget in OFFERS[offer] if is_new else ():
            unit = self.model.held((budget, decision, offer), self.now)
            if unit is None:
                self.model.loose.append(budget)
            else:
                unit.spent = True
        assert self.everywhere(lambda store: store.apply(event, OFFERS[offer])) is is_new

    @rule(seconds=st.sampled_from([0.5, 1.0, 59.0, 60.0, 540.0, LEASE]))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.share < BUDGETS["paced"])
    @rule()
    def the_pace_allows_more(self):
        self.share += 1

    @invariant()
    def all_agree_on_what_is_out(self):
        read = self.everywhere(lambda store: store.read("ann", SCHEMA, sorted(BUDGETS)))
        assert read.budgets == {budget: self.model.out(budget, self.now) for budget in BUDGETS}

    @invariant()
    def no_budget_is_exceeded(self):
        for budget in BUDGETS:
            units = [unit for unit in self.model.units if unit.who[0] == budget]
            assert sum(unit.spent or self.now < unit.ends for unit in units) <= self.allowed(budget)

    def teardown(self):
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()


def test_no_sequence_of_decisions_impressions_and_endings_exceeds_a_budget(valkey_url, cluster_url):
    """On one server an event is applied in one step, on a cluster in two."""
    urls = (valkey_url, cluster_url, *filter(None, [os.environ.get("REDIS_URL")]))
    with namespace(*urls) as name:
        machine = type("OnValkey", (AnySequence,), {"urls": urls, "namespace": name})
        run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=40, deadline=None))


def test_no_long_sequence_exceeds_a_budget_in_memory():
    run_state_machine_as_test(AnySequence, settings=settings(max_examples=150, stateful_step_count=60, deadline=None))
