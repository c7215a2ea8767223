"""Hard budgets behind a real `decide`: nothing is shown without a unit in hand, whoever races whom."""

import asyncio
from dataclasses import replace

import pytest
from shop import NOW, Server, offer, shop, told

from decisioning.catalog import Exploration, Surface
from decisioning.rules import Budget
from evaluation.recorded.replay import replay
from serving.deciding.units import ATTEMPTS
from serving.guarded.breaker import UNREAD
from stores.log.decision_log import decode
from stores.online.memory_store import MemoryStore
from stores.online.port import StoreDown
from stores.online.redis_store import RedisStore

CALM = Exploration(uniform=0.0)
SCARCE = frozenset({"scarce"})


def scarce(units: int = 10, **more) -> Budget:
    return Budget("few", SCARCE, units, **more)


@pytest.fixture
def release():
    return shop(offer("scarce", 90.0), offer("plain", 5.0), budgets=(scarce(),), exploration=CALM)


def replays(server: Server) -> bool:
    report = replay(map(decode, server.lines), lambda _: server.release)
    return report.ok and report.decisions == len(server.lines)


class Watched:
    """A store that notes what is asked of it, and may be told to fail."""

    def __init__(self, store=None) -> None:
        self.store = store or MemoryStore()
        self.asked: list[str] = []
        self.fails: set[str] = set()

    def __getattr__(self, name: str):
        async def ask(*args, **more):
            self.asked.append(name)
            if name in self.fails:
                raise StoreDown("told to")
            return await getattr(self.store, name)(*args, **more)

        return ask


class Patient:
    """A store that takes its time: so many requests at once are slower than any surface's deadline."""

    def __init__(self, store) -> None:
        self.store = store

    def __getattr__(self, name: str):
        return lambda *args, timeout=None: getattr(self.store, name)(*args)


def test_a_race_for_the_last_units_shows_no_more_than_there_are(redis_url, own_namespace, release):
    stores = [Patient(RedisStore(redis_url, timeout=5.0, namespace=own_namespace)) for _ in range(2)]
    servers = [Server(store, release) for store in stores]

    @told(*servers)
    async def story():
        users = [f"user{number}" for number in range(60)]
        answers = await asyncio.gather(*(servers[n % 2].decide(user) for n, user in enumerate(users)))
        lucky = [n for n, answer in enumerate(answers) if answer["offers"][0]["offer"] == "scarce"]
        assert len(lucky) == 10
        assert {answer["offers"][0]["offer"] for answer in answers} == {"scarce", "plain"}
        for n in lucky * 2:
            await servers[(n + 1) % 2].report(answers[n], users[n])
        assert await servers[0].out("few") == {"few": 10}
        assert await servers[1].shown("late") == ["plain"]
        assert all(map(replays, servers)), "the facts in the log are those of the final decision"


def test_without_a_hard_budget_a_decision_is_one_round_trip_and_with_one_two(release):
    soft = shop(offer("scarce", 90.0), budgets=(scarce(hard=False),), exploration=CALM)
    for current, asked in ((soft, ["read"]), (release, ["read", "reserve"])):
        store = Watched()

        @told(server := Server(store, current))
        async def story(server=server, store=store, asked=asked):
            assert await server.shown() == ["scarce"]
            assert store.asked == asked


def test_a_budget_that_runs_out_between_reading_and_reserving_counts_as_spent(release):
    store = Watched()

    @told(server := Server(store, release))
    async def story():
        for number in range(10):
            await server.decide(f"user{number}")
        facts = await store.store.read("nobody", server.runtime.current.schema, ["few"])
        stale = replace(facts, budgets={"few": 3})

        async def read(*_, **__):
            return stale

        store.read = read
        assert await server.shown(explain=True) == ["plain"]
        last = list(server.records)[-1]
        assert last.facts.budgets == {"few": 10}
        assert replays(server)


def test_a_store_that_fails_at_the_reservation_shows_nothing_of_a_hard_budget(release):
    more = replace(release.catalog, budgets=(scarce(), Budget("many", frozenset({"plain"}), 10, hard=False)))
    store = Watched()

    @told(server := Server(store, replace(release, catalog=more)))
    async def story():
        store.fails = {"reserve"}
        answer = await server.decide()
        assert [one["offer"] for one in answer["offers"]] == ["plain"], "a soft budget lets through"
        assert answer["degraded"] == ["features:unpublished", "budgets:unread"]
        assert server.runtime.store.is_down
        assert replays(server)


def test_a_store_that_is_down_from_the_start_shows_nothing_of_a_hard_budget(release):
    store = Watched()
    store.fails = {"read"}

    @told(server := Server(store, release))
    async def story():
        assert await server.shown() == ["plain"]
        (record,) = server.records
        assert record.facts.unread == UNREAD
        assert replays(server)


def test_a_dry_run_takes_no_unit(release):
    @told(server := Server(Watched(), release))
    async def story():
        for _ in range(20):
            assert await server.shown(dry_run=True) == ["scarce"]
        assert await server.out("few") == {"few": 0}
        assert server.store.asked.count("reserve") == 0


def test_an_answer_that_nobody_saw_gives_its_unit_back_in_ten_minutes(release):
    clock = [NOW]

    @told(server := Server(MemoryStore(clock=lambda: clock[0]), release))
    async def story():
        answers = [await server.decide(f"user{number}") for number in range(10)]
        await server.report(answers[0], "user0")
        assert await server.shown("late") == ["plain"]
        clock[0] += 599.0
        assert await server.shown("late") == ["plain"]
        clock[0] += 1.0
        assert await server.shown("late") == ["scarce"]
        assert await server.out("few") == {"few": 2}


def test_a_paced_budget_hands_out_an_even_share_of_the_time_that_has_passed():
    paced = scarce(1000, even=True, starts=NOW, until=NOW + 1000.0)
    current = shop(offer("scarce", 90.0), budgets=(paced,), exploration=CALM)

    @told(server := Server(MemoryStore(), current))
    async def story():
        for seconds, share in ((0.0, 0), (5.0, 5), (12.5, 13)):
            server.now = NOW + seconds
            for number in range(30):
                await server.decide(f"user{seconds}.{number}")
            assert await server.out("few") == {"few": share}


def test_after_a_budgets_time_its_offers_need_no_unit():
    current = shop(offer("scarce", 90.0), budgets=(scarce(1, until=NOW),), exploration=CALM)

    @told(server := Server(Watched(), current))
    async def story():
        for number in range(3):
            assert await server.shown(f"user{number}") == ["scarce"]
        assert "reserve" not in server.store.asked


def test_a_slate_takes_a_unit_for_each_slot_and_shows_all_or_none_of_a_budget():
    surfaces = (Surface("shelf", slots=3, deadline=0.05),)
    twins = (offer("left", 9.0, ("shelf",)), offer("right", 8.0, ("shelf",)))
    pair = Budget("pair", frozenset({"left", "right"}), 3)
    current = shop(*twins, surfaces=surfaces, budgets=(pair,), exploration=CALM)

    @told(server := Server(MemoryStore(), current))
    async def story():
        assert await server.shown("ann", "shelf") == ["left", "right", "generic"]
        assert await server.out("pair") == {"pair": 2}
        assert await server.shown("bob", "shelf") == ["generic"]
        assert await server.out("pair") == {"pair": 2}
        last = list(server.records)[-1]
        assert last.facts.budgets == {"pair": 3}, "one is left, which is none for two"
        assert "budgets:unread" not in last.decision.degraded
        assert replays(server)


def test_a_slot_alone_takes_the_last_unit_that_a_whole_slate_could_not():
    surfaces = (Surface("shelf", slots=2, deadline=0.05),)
    twins = (offer("left", 9.0, ("shelf",)), offer("right", 8.0, ("shelf",)))
    pair = Budget("pair", frozenset({"left", "right"}), 1)
    current = shop(*twins, surfaces=surfaces, budgets=(pair,), exploration=CALM)

    @told(server := Server(MemoryStore(), current))
    async def story():
        assert await server.shown("ann", "shelf") == ["generic"]
        assert await server.shown("bob", "shelf", slots=1) == ["left"]
        assert await server.out("pair") == {"pair": 1}


def test_the_attempts_are_bounded_and_then_every_hard_budget_is_closed():
    names = [f"scarce{number}" for number in range(ATTEMPTS + 3)]
    budgets = tuple(Budget(f"of {name}", frozenset({name}), 5) for name in names)
    current = shop(*(offer(name, 90.0 - n) for n, name in enumerate(names)), budgets=budgets, exploration=CALM)

    class Mean(MemoryStore):
        asked = 0

        async def reserve(self, decision_id, wants, lasts, *, timeout=None):
            self.asked += 1
            return {want.budget: want.allowed for want in wants}

    store = Mean()

    @told(server := Server(store, current))
    async def story():
        assert await server.shown() == ["generic"]
        assert store.asked == ATTEMPTS
        assert replays(server)


def test_a_fallback_under_a_hard_budget_is_not_shown_without_a_unit():
    """The checker refuses such a catalog; this one is built by hand."""
    surfaces = (Surface("banner", fallback="scarce", deadline=0.05),)
    current = shop(offer("scarce"), surfaces=surfaces, budgets=(scarce(2),), exploration=CALM)
    current = replace(current, catalog=replace(current.catalog, offers={"scarce": current.catalog.offers["scarce"]}))

    @told(server := Server(MemoryStore(), current))
    async def story():
        shown = [await server.shown(f"user{number}") for number in range(4)]
        assert shown == [["scarce"], ["scarce"], [], []]
