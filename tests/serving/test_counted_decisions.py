"""Caps that count decisions: what was answered enters the user's history, once."""

import asyncio

import pytest
from shop import Server, offer, shop, told

from decisioning.catalog import Exploration, Surface
from decisioning.domain import DECISION
from decisioning.rules import Cap, CapBy, Scope
from stores.online.memory_store import MemoryStore
from stores.online.port import StoreDown

DAY = 86_400.0
CALM = Exploration(uniform=0.0)
TWICE = Cap("twice", 2, DAY, CapBy.OFFER, counts=DECISION, scope=Scope(except_groups=frozenset({"fallback"})))
SHELF = Surface("shelf", slots=2, deadline=0.05)


@pytest.fixture
def server():
    surfaces = (Surface("banner", fallback="generic", deadline=0.05), SHELF)
    both = ("banner", "shelf")
    offers = [offer("gold", 30.0, both), offer("silver", 20.0, both)]
    return Server(MemoryStore(), shop(*offers, surfaces=surfaces, caps=(TWICE,), exploration=CALM))


def test_an_offer_is_answered_no_more_often_than_its_cap_allows_seen_or_not(server):
    @told(server)
    async def story():
        assert [await server.shown() for _ in range(5)] == [["gold"]] * 2 + [["silver"]] * 2 + [["generic"]]
        server.now += DAY
        assert await server.shown() == ["gold"]


def test_each_slot_is_a_decision_of_its_offer(server):
    @told(server)
    async def story():
        assert [await server.shown(surface="shelf") for _ in range(3)] == [["gold", "silver"]] * 2 + [["generic"]]


def test_a_dry_run_obeys_the_cap_and_counts_nothing(server):
    @told(server)
    async def story():
        for _ in range(5):
            assert await server.shown(dry_run=True) == ["gold"]
        await server.decide()
        await server.decide()
        assert await server.shown(dry_run=True) == ["silver"]


def test_where_no_cap_counts_decisions_none_is_recorded():
    @told(server := Server(MemoryStore(), shop(offer("gold"), exploration=CALM)))
    async def story():
        await server.decide()
        assert server.store._history == {}


def test_a_decision_that_is_recorded_again_counts_once(server):
    @told(server)
    async def story():
        await server.decide()
        ((event,),) = (history.values() for history in server.store._history.values())
        assert event.type == DECISION
        assert not await server.store.apply(event)


def test_a_client_cannot_report_a_decision(server):
    @told(server)
    async def story():
        answer = await server.decide()
        told_off = await server.report(answer, type="decision")
        assert told_off["accepted"] == 0
        assert "server's own" in told_off["rejected"][0]["reason"]


def test_a_store_too_slow_for_the_deadline_counts_the_decision_in_the_background(server):
    apply = server.store.apply

    async def slowly(*args, **more):
        await asyncio.sleep(0.12)
        return await apply(*args, **more)

    @told(server)
    async def story():
        server.store.apply = slowly
        loop = asyncio.get_running_loop()
        started = loop.time()
        await server.decide()
        assert loop.time() - started < 0.1
        await server.runtime.store.close()
        assert len(server.store._history) == 1


def test_decisions_of_an_outage_are_counted_when_it_is_over(server):
    apply = server.store.apply

    async def broken(*_, **__):
        raise StoreDown("told to")

    @told(server)
    async def story():
        server.store.apply = broken
        assert await server.shown() == ["gold"]
        assert server.runtime.store.is_down
        server.store.apply = apply
        while server.runtime.store.is_down:
            await asyncio.sleep(0.02)
        assert [len(history) for history in server.store._history.values()] == [1]
