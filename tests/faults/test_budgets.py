"""Hard budgets and kill switches while their store dies, refuses to write, or is gone: closed, and never an error."""

import asyncio
import time
from contextlib import suppress

import pytest
from own_time import Watch
from shop import Server as OwnServer
from shop import told

from decisioning import engine
from stores.online.redis_store import RedisStore
from stores.releases import ReleaseStore


def shown(answer: dict) -> list[str]:
    return [one["offer"] for one in answer["offers"]]


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_store_that_dies_between_deciding_and_reserving_shows_nothing_of_a_hard_budget(
    valkey, home, monkeypatch, fault
):
    release = ReleaseStore(home.releases).load(ReleaseStore(home.releases).current())
    decide, decided = engine.decide, []

    def deadly(*args):
        if not decided:
            getattr(valkey, fault)()
        decided.append(decide(*args))
        return decided[-1]

    server = OwnServer(RedisStore(valkey.url, timeout=0.25), release, now=time.time())
    try:

        @told(server)
        async def story():
            await server.decide("warm", "deal", dry_run=True)
            monkeypatch.setattr("decisioning.engine.decide", deadly)
            watch = Watch()
            answer = await server.decide("ann", "deal")
            assert watch.seconds < 0.25
            assert [one.first for one in decided] == ["scarce", "plenty"], "it was chosen, and then not to be had"
            assert shown(answer) == ["plenty"]
            assert "budgets:unread" in answer["degraded"]
            (record,) = server.records
            assert decide(release, record.request, record.facts) == record.decision
    finally:
        with suppress(ProcessLookupError):
            valkey.thaw()


def test_a_store_that_is_read_only_after_a_failover_shows_nothing_of_a_hard_budget_until_it_does(serve, valkey, within):
    server = serve(valkey.url)
    assert shown(server.decide_well("deal")) == ["scarce"]
    with valkey.admin() as admin:
        admin.replicaof("127.0.0.1", 1)
        try:
            for _ in range(5):
                assert shown(server.decide_well("deal")) == ["plenty"]
        finally:
            admin.replicaof("NO", "ONE")
    within(2.0, lambda: shown(server.decide_well("deal", dry_run=True)) == ["scarce"])


def test_leases_survive_a_restart_of_the_store_that_saved_them(serve, valkey, within):
    server = serve(valkey.url)
    for _ in range(3):
        assert shown(server.decide_well("deal")) == ["scarce"]
    valkey.save()
    valkey.kill()
    assert shown(server.decide_well("deal")) == ["plenty"]
    valkey.start()
    within(2.0, lambda: "store:down" not in server.decide_well("deal")["degraded"])
    assert shown(server.decide_well("deal")) == ["plenty"], "all three units are still on lease"


def test_servers_that_serve_at_once_share_the_units(serve, valkey):
    servers = [serve(valkey.url) for _ in range(2)]

    async def race() -> list[str]:
        asked = [asyncio.to_thread(servers[n % 2].decide_well, "deal") for n in range(12)]
        return [name for answer in await asyncio.gather(*asked) for name in shown(answer)]

    assert 1 <= asyncio.run(race()).count("scarce") <= 3


def test_a_killed_offer_stays_off_while_the_store_is_gone(serve, valkey, within):
    server = serve(valkey.url)
    assert shown(server.decide_well("strip")) == ["poster"]
    with valkey.admin() as admin:
        admin.sadd("segue:killed", "poster")

    def is_off() -> bool:
        answer = server.decide_well("strip")
        return (shown(answer), answer["degraded"]) == (["generic"], [])

    within(1.0, is_off)
    valkey.save()
    valkey.kill()
    for _ in range(10):
        assert shown(server.decide_well("strip")) == ["generic"]
    valkey.start()
    with valkey.admin() as admin:
        admin.srem("segue:killed", "poster")
    within(2.0, lambda: shown(server.decide_well("strip")) == ["poster"])


def test_a_server_knows_of_kill_switches_before_its_first_request(serve, valkey):
    with valkey.admin() as admin:
        admin.sadd("segue:killed", "poster")
    server = serve(valkey.url)
    valkey.kill()
    assert shown(server.decide_well("strip")) == ["generic"]
