"""What a worker that is behind leaves out of a decision, rung by rung: and what it keeps to, whatever it leaves out."""

import asyncio
import json
from dataclasses import replace

import phones
import pytest
from shop import Server

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Rung, Source
from decisioning.engine import Release, decide
from decisioning.rules import Budget, Cap, CapBy
from serving.deciding.decide import made
from serving.pressure import Pressure
from stores.log.decision_log import canonical, decode, encode
from stores.online.memory_store import MemoryStore

PHONE = {"device": "phone", "minutes": 12.0}
BUDGET = 0.05
"""Seconds, of the surface."""
AGES = {Rung.MODEL: 0.0, Rung.CACHED: 0.02, Rung.PRIOR: 0.03, Rung.FALLBACK: 0.049}


class Behind(Pressure):
    """As far behind as a test says."""

    seconds_behind = 0.0

    def behind(self) -> float:
        return self.seconds_behind


class Counted(MemoryStore):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.meanwhile = lambda: None
        """What happens while it is read."""

    async def read(self, *words, **more):
        self.asked.append("read")
        self.meanwhile()
        return await super().read(*words, **more)

    async def reserve(self, *words, **more):
        self.asked.append("reserve")
        return await super().reserve(*words, **more)


@pytest.fixture
def server():
    catalog = load_catalog({"all.yaml": phones.CATALOG})
    server = Server(Counted(), Release("r1", catalog, {"upsell": phones.fitted()}, salt="s"))
    server.runtime.pressure = Behind()
    return server


def ask(server, rung, **more):
    """An answer, and all that is known of its decision."""
    return ask_behind(server, AGES[rung], **more)


def ask_behind(server, seconds, **more):
    server.runtime.pressure.seconds_behind = seconds
    body = json.dumps({"user_id": "ann", "surface": "banner", "context": PHONE, **more}).encode()
    found = asyncio.run(made(server.runtime, body))
    answer = json.loads(found.answer)
    answer["degraded"] = [what for what in answer["degraded"] if what != "features:unpublished"]  # there are none here
    return answer, found


def test_each_rung_says_what_it_left_out(server):
    degraded = {rung: ask(server, rung)[0]["degraded"] for rung in Rung}
    assert degraded == {
        Rung.MODEL: [],
        Rung.CACHED: ["scores:cached"],
        Rung.PRIOR: ["scores:prior"],
        Rung.FALLBACK: ["overload:fallback"],
    }


def test_cached_scores_decide_as_the_model_did_a_moment_ago(server):
    model, _ = ask(server, Rung.MODEL)
    cached, found = ask(server, Rung.CACHED, context={**PHONE, "minutes": 90.0})
    assert (cached["source"], cached["model"]) == ("model", "upsell/1")
    assert cached["offers"] == model["offers"]
    assert found.facts.shed.known["upsell/1"].offers == ("annual",)


def test_who_is_not_remembered_gets_what_holds_for_everybody_and_no_model_is_named(server):
    stranger, _ = ask(server, Rung.CACHED, user_id="bob")
    assert (stranger["source"], stranger["model"], stranger["degraded"]) == ("rules", "none", ["scores:prior"])
    assert stranger["offers"][0]["p_convert"] == 0.5, "the model's mean"


def test_what_was_said_of_one_user_or_surface_or_release_is_never_said_of_another(server):
    ask(server, Rung.MODEL)
    assert ask(server, Rung.CACHED, user_id="bob")[0]["degraded"] == ["scores:prior"]
    server.use(replace(server.release, id="r2"))
    assert ask(server, Rung.CACHED)[0]["degraded"] == ["scores:prior"], "a new release begins with nothing"


@pytest.mark.parametrize("more", [{}, {"dry_run": True}], ids=["plain", "dry run"])
def test_what_falls_behind_while_the_store_is_asked_goes_without_the_models(server, more):
    """With what was read all the same: no fallback, however far behind."""
    server.store.meanwhile = lambda: setattr(server.runtime.pressure, "seconds_behind", AGES[Rung.FALLBACK])
    answer, found = ask(server, Rung.MODEL, **more)
    assert (answer["degraded"], found.facts.unread) == (["scores:prior"], frozenset())


def test_reasons_are_left_out_first_and_only_then_the_models(server):
    answer, _ = ask_behind(server, 0.006, explain=True)
    assert (answer["degraded"], answer["source"]) == (["explain:shed"], "model")
    assert "reasons" not in answer
    answer, _ = ask(server, Rung.MODEL, explain=True)
    assert answer["reasons"]


def test_explaining_a_decision_puts_nothing_into_the_cache(server):
    """It asks the models what-if questions, about a user who is not quite this one."""
    _, plain = ask(server, Rung.MODEL)
    _, before = ask(server, Rung.CACHED)
    ask(server, Rung.MODEL, explain=True)
    ask(server, Rung.MODEL, user_id="bob", context={"device": "tv", "minutes": 0.0})
    _, after = ask(server, Rung.CACHED)
    assert before.facts.shed == after.facts.shed
    assert after.facts.shed.known["upsell/1"].p_convert == (plain.decision.slate[0].p_convert,)


def test_what_was_said_to_explain_is_remembered_of_nobody_else(server):
    ask(server, Rung.MODEL, explain=True)
    _, found = ask(server, Rung.MODEL, user_id="bob", exclude=["annual"])
    assert found.decision.model is None, "nobody asked the model"
    assert ask(server, Rung.CACHED, user_id="bob")[0]["degraded"] == ["scores:prior"]


def test_the_fallback_asks_the_store_nothing_and_keeps_the_kill_switch_it_knows_of(server):
    async def story():
        await server.store.kill("generic")
        body = json.dumps({"user_id": "ann", "surface": "banner", "context": PHONE}).encode()
        await made(server.runtime, body)
        server.store.asked.clear()
        server.runtime.pressure.seconds_behind = AGES[Rung.FALLBACK]
        return await made(server.runtime, body)

    found = asyncio.run(story())
    assert server.store.asked == []
    assert found.decision.slate == ()
    assert (found.decision.source, found.decision.policy) == (Source.NONE, None)
    assert found.facts.killed == {"generic"}


def with_rules(server, **rules):
    catalog = replace(server.release.catalog, **rules)
    server.use(replace(server.release, catalog=catalog))


def test_a_hard_budget_is_closed_where_there_is_no_time_to_take_a_unit(server):
    with_rules(server, budgets=(Budget("few", frozenset({"annual"}), 100),))
    for rung, offer, asked in (
        (Rung.MODEL, "annual", ["read", "reserve"]),
        (Rung.CACHED, "annual", ["read", "reserve"]),
        (Rung.PRIOR, "generic", ["read"]),
        (Rung.FALLBACK, "generic", []),
    ):
        server.store.asked.clear()
        answer, _ = ask(server, rung)
        assert (answer["offers"][0]["offer"], server.store.asked) == (offer, asked)


def test_caps_hold_on_every_rung(server):
    with_rules(server, caps=(Cap("once", 1, 86_400.0, CapBy.OFFER),))

    async def story():
        answer = await server.decide(context=PHONE)
        await server.report(answer)

    asyncio.run(story())
    for rung in Rung:
        answer, _ = ask(server, rung)
        assert [one["offer"] for one in answer["offers"]] in ([], ["generic"])


@pytest.mark.parametrize("rung", Rung)
def test_a_decision_of_every_rung_comes_out_the_same_from_its_line_in_the_log(server, rung):
    ask(server, Rung.MODEL)
    _, found = ask(server, rung)
    record = decode(encode(found.record))
    assert canonical(decide(server.release, record.request, record.facts)) == canonical(found.decision)
    shed = record.facts.shed
    assert (shed is None) is (rung is Rung.MODEL)
    assert shed is None or shed.rung is rung
