"""Explaining by the command line: what the server gives now, and what it gave, from the log alone."""

import os
import shutil

import pytest

from stores.embedded import running
from stores.releases import ReleaseStore

CATALOG = b"""
features:
  consent: {type: bool, if_missing: block}
  device: {type: enum, values: [phone, tv], from: context}
surfaces:
  push: {fallback: null, deadline: 50ms, sticky: 1d}
  shelf: {fallback: null, deadline: 50ms, slots: 2, max_per_group: 1}
offers:
  annual: {owner: growth, group: upgrade, surfaces: [push, shelf], score: {value: 40.0}}
  monthly: {owner: growth, group: upgrade, surfaces: [push, shelf], score: {value: 35.0}}
  vinyl: {owner: merch, group: merch, surfaces: [push, shelf], score: {value: 5.0}}
  console: {owner: merch, group: merch, surfaces: [shelf], score: {value: 90.0}, eligible: {device: tv}}
  quiz: {owner: growth, group: games, surfaces: [shelf], score: {value: 1.0}}
guards:
  consent_for_quiz: {require: {consent: true}, only: {offer: quiz}}
exploration: {uniform: 0.6}
"""


@pytest.fixture(scope="module")
def shop(terminal):
    releases = ReleaseStore(terminal.home / "releases")
    release = releases.publish({"catalog/all.yaml": CATALOG}, who="test", why="test", now=0.0)
    releases.activate(release, expected=None, who="test", why="test", now=0.0)
    if "REDIS_URL" in os.environ:
        yield terminal
        return
    with running(terminal.home / "valkey"):
        yield terminal


@pytest.fixture(scope="module")
def answers(shop):
    """What the server answered on the two surfaces, and what the verb said meanwhile of the sticky one."""
    with shop.serving() as server:
        given = {user: server.client.decide(user, "push") for user in ("ann", "bob", "eve", "joe")}
        given["shelf"] = server.client.decide("ann", "shelf", context={"device": "phone"})
        said = {user: shop.json("decide", user, "push") for user in ("ann", "bob", "eve", "joe")}
        assert "kept until" in shop.segue("decide", "ann", "push", "--explain")
    return given, said


def test_the_verb_gives_the_answer_of_the_sticky_period_that_the_server_gave(answers):
    given, said = answers
    assert {user: (one["decision_id"], [slot["offer"] for slot in one["slate"]]) for user, one in said.items()} == {
        user: (given[user]["decision_id"], [slot["offer"] for slot in given[user]["offers"]]) for user in said
    }


def test_a_decision_is_explained_by_its_id_from_the_log_alone(shop, answers):
    given = answers[0]["shelf"]
    found = shop.json("explain", given["decision_id"])
    assert found["identical"] is True
    assert [one["offer"] for one in found["decision"]["slate"]] == [one["offer"] for one in given["offers"]]
    reasons = {one["offer"]: one for one in found["reasons"]}
    assert reasons.keys() == {"annual", "monthly", "vinyl", "console", "quiz"} - {
        one["offer"] for one in given["offers"]
    }
    assert (reasons["console"]["stage"], reasons["console"]["detail"]) == ("eligible", "device is phone, needs tv")
    assert reasons["console"]["change"]["words"].startswith("if device is tv")
    assert {name: [clause["detail"] for clause in clauses] for name, clauses in found["said_no"].items()} == {
        "console": ["device is tv"],
        "quiz": ["consent_for_quiz: only where consent is known", "consent_for_quiz: only where consent is true"],
    }
    words = shop.segue("explain", given["decision_id"])
    assert "if device is tv" in words
    assert "consent_for_quiz: only where consent is true (all.yaml:" in words


def test_a_decision_that_the_log_does_not_have_or_whose_release_is_gone_is_a_clear_mistake(shop, answers):
    assert "has no decision d-1" in shop.segue("explain", "d-1", expect=2)
    folder = shop.home / "releases" / answers[0]["shelf"]["release"]
    folder.rename(kept := folder.with_name("away"))
    try:
        message = shop.segue("explain", answers[0]["shelf"]["decision_id"], expect=2)
        assert "Traceback" not in message
    finally:
        shutil.move(kept, folder)
