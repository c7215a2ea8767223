"""Sticky surfaces: a client that polls gets one decision and one answer, for as long as the rules allow it."""

import asyncio
from dataclasses import replace

import pytest
from shop import NOW, SECRET, Server, offer, shop, told

from decisioning.catalog import Exploration, Surface
from decisioning.domain import DECISION
from decisioning.identity import sticky_decision_id, sticky_until, user_key
from decisioning.rules import Budget, Cap, CapBy, Suppression
from evaluation.recorded.replay import replay
from stores.log.decision_log import decode, distinct
from stores.online.budgets import MemoryBudgets
from stores.online.memory_store import MemoryStore
from stores.online.port import StoreDown
from stores.online.redis_store import RedisStore
from stores.online.sticky import Given

DAY = 86_400.0
PERIOD = 3600.0
CALM = Exploration(uniform=0.0)
PUSH = Surface("push", slots=2, deadline=0.05, sticky=PERIOD)
BANNER = Surface("banner", deadline=0.05)
HERE = ("push", "banner")


def sticky_shop(*, values=(30.0, 20.0, 10.0), **rules):
    names = ("gold", "silver", "bronze")
    offers = [offer(name, value, HERE) for name, value in zip(names, values, strict=True)]
    rules.setdefault("exploration", CALM)
    return shop(*offers, surfaces=(PUSH, BANNER), **rules)


@pytest.fixture
def server():
    return Server(MemoryStore(), sticky_shop())


def test_the_same_answer_for_the_whole_period_and_one_line_in_the_log(server):
    @told(server)
    async def story():
        first = await server.decide("ann", "push")
        assert [one["offer"] for one in first["offers"]] == ["gold", "silver"]
        for seconds in (1.0, 60.0, PERIOD - 1.0):
            server.now = NOW + seconds
            assert await server.decide("ann", "push") == first
        assert len(server.lines) == 1
        server.now = NOW + PERIOD
        after = await server.decide("ann", "push")
        assert after["decision_id"] != first["decision_id"]
        assert len(server.lines) == 2


@pytest.mark.parametrize("seconds", [0.0, 1.0, PERIOD - 1.0])
def test_the_answer_holds_until_the_end_of_the_period_whenever_it_was_asked_for(server, seconds):
    @told(server)
    async def story():
        server.now = NOW + seconds
        assert (await server.decide("ann", "push"))["expires_at"] == "2027-01-15T09:00:00.000Z"


@pytest.mark.parametrize("period", [60.0, PERIOD, 0.7, 14 * DAY])
def test_a_period_ends_where_the_next_decision_begins(period):
    for now in (NOW, NOW + 0.3 * period, NOW + 7.7 * period):
        end = sticky_until(now, period)
        assert now < end <= now + period * 1.000001
        ids = [sticky_decision_id("u", "s", moment, period) for moment in (now, end - 1e-3, end + 1e-3)]
        assert ids[0] == ids[1] != ids[2]


def test_other_scores_and_another_release_change_no_answer_within_the_period(server):
    @told(server)
    async def story():
        first = await server.decide("ann", "push")
        server.use(replace(sticky_shop(values=(1.0, 2.0, 90.0)), id="r2"))
        assert await server.decide("ann", "push") == first
        assert (await server.decide("bob", "push"))["offers"][0]["offer"] == "bronze"
        server.now += PERIOD
        assert (await server.decide("ann", "push"))["offers"][0]["offer"] == "bronze"


def test_its_own_impressions_never_turn_an_answer_away_but_fill_caps_elsewhere():
    caps = (Cap("once", 1, DAY, CapBy.OFFER), Cap("asked_once", 1, DAY, CapBy.OFFER, counts=DECISION))
    tired = (Suppression("tired", "impression", DAY, same="any"),)

    @told(server := Server(MemoryStore(), sticky_shop(caps=caps, suppressions=tired)))
    async def story():
        first = await server.decide("ann", "push")
        for slot in (1, 2):
            assert (await server.report(first, slot=slot))["accepted"] == 1
        assert await server.decide("ann", "push") == first
        assert await server.shown("ann", "banner") == [], "another decision counts them"
        server.now += PERIOD
        assert await server.shown("ann", "push") == [], "and so does that of the next period"


def test_what_the_user_did_about_an_answer_counts_against_it_at_once():
    suppressions = (Suppression("after_dismiss", "dismiss", DAY),)

    @told(server := Server(MemoryStore(), sticky_shop(suppressions=suppressions)))
    async def story():
        first = await server.decide("ann", "push")
        await server.report(first)
        await server.report(first, type="dismiss")
        second = await server.decide("ann", "push")
        assert [one["offer"] for one in second["offers"]] == ["silver", "bronze"]
        assert second["decision_id"] == first["decision_id"], "the same decision, corrected"
        assert await server.decide("ann", "push") == second
        assert len(server.lines) == 2, "the correction can be audited"
        assert replay(map(decode, server.lines), lambda _: server.release).ok
        (one,) = distinct(server.records)
        assert [shown.offer for shown in one.decision.slate] == ["gold", "silver"], "learning reads what was drawn"


def test_a_killed_offer_leaves_a_sticky_answer_at_once(server):
    @told(server)
    async def story():
        await server.decide("ann", "push")
        await server.store.kill("silver")
        assert await server.shown("ann", "push") == ["gold", "bronze"]
        await server.store.revive("silver")
        assert await server.shown("ann", "push") == ["gold", "bronze"], "the corrected answer holds"


def test_an_offer_that_a_new_release_has_not_is_no_longer_shown(server):
    @told(server)
    async def story():
        await server.decide("ann", "push")
        offers = {name: one for name, one in server.release.catalog.offers.items() if name != "gold"}
        server.use(replace(server.release, id="r2", catalog=replace(server.release.catalog, offers=offers)))
        assert await server.shown("ann", "push") == ["silver", "bronze"]


def test_a_poll_may_exclude_an_offer_or_ask_for_fewer_slots(server):
    @told(server)
    async def story():
        assert await server.shown("ann", "push", slots=1) == ["gold"]
        assert await server.shown("ann", "push") == ["gold", "silver"], "more slots than before: decided anew"
        assert await server.shown("ann", "push", slots=1) == ["gold"]
        assert await server.shown("ann", "push", exclude=["gold"]) == ["silver", "bronze"]


def test_many_first_requests_at_once_get_one_answer_and_are_logged_once(redis_url, own_namespace):
    """Each server has a release of its own, so that they would decide differently."""
    releases = [sticky_shop(), replace(sticky_shop(values=(1.0, 2.0, 90.0)), id="r2")]
    servers = [Server(RedisStore(redis_url, timeout=5.0, namespace=own_namespace), one) for one in releases]

    @told(*servers)
    async def story():
        for server in servers:
            await server.decide("warm", "banner")
        answers = await asyncio.gather(*(servers[n % 2].decide("ann", "push") for n in range(10)))
        assert all(answer == answers[0] for answer in answers)
        logged = [r for server in servers for r in server.records if r.request.surface == "push"]
        assert len(logged) == 1


def test_a_fallback_makes_way_for_an_offer_within_the_period(server):
    """Such as a push at night, and then again in the morning."""

    @told(server)
    async def story():
        for name in ("gold", "silver", "bronze", "generic"):
            await server.store.kill(name)
        for _ in range(3):
            assert await server.shown("ann", "push") == []
        assert len(server.lines) == 1, "the same want of an answer again is nothing new"
        await server.store.revive("gold")
        assert await server.shown("ann", "push") == ["gold"]
        await server.store.revive("silver")
        assert await server.shown("ann", "push") == ["gold"], "that one was drawn, and holds"
        assert len(server.lines) == 2
        (one,) = distinct(server.records)
        assert one.decision.first == "gold", "learning reads the record that drew"


def test_a_drawn_nothing_stays_nothing():
    quiet = Surface("push", allow_nothing=True, deadline=0.05, sticky=PERIOD)
    here = ("push",)
    explorer = Exploration(uniform=1.0)
    release = shop(offer("gold", 30.0, here), surfaces=(quiet,), exploration=explorer)

    @told(server := Server(MemoryStore(), release))
    async def story():
        users = [f"user{number}" for number in range(30)]
        first = [await server.shown(user, "push") for user in users]
        assert [] in first
        server.use(shop(offer("gold", 30.0, here), surfaces=(quiet,), exploration=CALM))
        assert [await server.shown(user, "push") for user in users] == first
        assert len(server.lines) == len(users)


def test_a_sticky_answer_holds_its_units_of_a_hard_budget_through_polls_and_impressions():
    budget = Budget("few", frozenset({"gold"}), 1)
    clock = [NOW]

    @told(server := Server(MemoryStore(clock=lambda: clock[0]), sticky_shop(budgets=(budget,))))
    async def story():
        first = await server.decide("ann", "push")
        assert first["offers"][0]["offer"] == "gold"
        for seconds in (0.0, 60.0, PERIOD - 1.0):
            server.now = clock[0] = NOW + seconds
            assert await server.decide("ann", "push") == first, "longer than ten minutes"
            assert await server.shown("bob", "push") == ["silver", "bronze"]
        for number in range(3):
            await server.report(first, event_id=f"e{number}")
            assert await server.decide("ann", "push") == first
        assert await server.out("few") == {"few": 1}


def test_a_sticky_answer_whose_unit_is_lost_is_shown_no_more():
    """Such as by a store that came back from an old snapshot, or that does not answer."""
    budget = Budget("few", frozenset({"gold"}), 1)
    server = Server(MemoryStore(), sticky_shop(budgets=(budget,)))

    async def silent(*_, **__):
        raise StoreDown("told to")

    @told(server)
    async def story():
        first = await server.decide("ann", "push")
        reserve, server.store.reserve = server.store.reserve, silent
        assert await server.shown("ann", "push") == ["silver", "bronze"], "nobody can tell whether it has its unit"
        server.store.reserve = reserve
        while server.runtime.store.is_down:
            await asyncio.sleep(0.02)
        assert await server.decide("ann", "push") == first
        server.store._budgets = MemoryBudgets(server.store._clock)
        assert (await server.shown("bob", "push"))[0] == "gold", "the unit went to somebody else"
        assert await server.shown("ann", "push") == ["silver", "bronze"]
        assert await server.out("few") == {"few": 1}


def test_a_dry_run_sees_the_answer_that_stands_and_leaves_none(server):
    @told(server)
    async def story():
        assert await server.shown("ann", "push", dry_run=True) == ["gold", "silver"]
        server.use(sticky_shop(values=(1.0, 2.0, 90.0)))
        assert (await server.shown("ann", "push"))[0] == "bronze", "nothing stood yet"
        server.use(sticky_shop())
        assert (await server.shown("ann", "push", dry_run=True))[0] == "bronze"
        assert len(server.lines) == 1


def test_a_poll_can_be_explained(server):
    @told(server)
    async def story():
        first = await server.decide("ann", "push", explain=True)
        again = await server.decide("ann", "push", explain=True)
        fates = [{one["offer"]: one["stage"] for one in answer["reasons"]} for answer in (first, again)]
        assert fates[0] == fates[1] == {"bronze": "outranked", "generic": "outranked"}
        assert {one["rule"] for one in first["reasons"]} == {"score"}
        assert {(one["rule"], one["detail"]) for one in again["reasons"]} == {
            ("sticky", "the answer of this period is kept until 2027-01-15 09:00 UTC")
        }
        assert all(one["change"].startswith("again in 1 h, when a new answer is drawn") for one in again["reasons"])


def test_a_damaged_memory_is_no_memory_and_a_store_that_is_down_no_obstacle(server):
    @told(server)
    async def story():
        first = await server.decide("ann", "push")
        ann = user_key(SECRET, "ann")
        for answer in (b"\xc1", b"", b"\x93\x01\x02\x03"):
            server.store._answers[ann, first["decision_id"]] = (answer, float("inf"))
            assert (await server.decide("ann", "push"))["offers"] == first["offers"]

        async def broken(*_, **__):
            raise ConnectionError

        server.store.read_again = broken
        answer = await server.decide("ann", "push")
        assert answer["degraded"] == ["store:down"]
        assert answer["offers"]


def test_what_is_remembered_has_a_stable_order():
    """Servers of two versions read one another's memory: fields may be added at the end only."""
    assert Given.__struct_fields__ == ("slots", "slate", "source", "model", "release", "drawn")
