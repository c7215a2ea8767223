"""The kill switch, by the command line and a running server: off within a second, without a release, and on record."""

import json
import os
import time

import pytest

from stores.embedded import running
from stores.releases import ReleaseStore

CATALOG = b"""
surfaces:
  banner: {fallback: null, deadline: 50ms}
offers:
  annual: {owner: growth, group: upgrade, surfaces: [banner], score: {value: 40.0}}
  monthly: {owner: growth, group: upgrade, surfaces: [banner], score: {value: 5.0}}
exploration: {uniform: 0.0}
"""


@pytest.fixture(scope="module")
def shop(terminal):
    """A release, and a store that outlives the verbs."""
    releases = ReleaseStore(terminal.home / "releases")
    release = releases.publish({"catalog/all.yaml": CATALOG}, who="test", why="test", now=0.0)
    releases.activate(release, expected=None, who="test", why="test", now=0.0)
    if "REDIS_URL" in os.environ:
        yield terminal
        return
    with running(terminal.home / "valkey"):
        yield terminal


def shown(client) -> list[str]:
    return [one["offer"] for one in client.decide("ann", "banner")["offers"]]


def test_a_killed_offer_is_gone_within_a_second_and_back_when_revived(shop):
    with shop.serving() as server:
        assert shown(server.client) == ["annual"]
        assert shop.json("kill", "annual", "--why", "wrong price") == {
            "offer": "annual", "killed": True, "changed": True,
        }  # fmt: skip
        done = time.monotonic()
        while "annual" in shown(server.client):
            assert time.monotonic() - done < 1.0
        assert shown(server.client) == ["monthly"]
        (row,) = shop.json("kill", "--list")["killed"]
        assert (row["offer"], row["why"]) == ("annual", "wrong price")
        assert row["who"]
        assert "wrong price" in shop.segue("kill", "--list")
        assert shop.json("kill", "annual", "--why", "again")["changed"] is False
        assert shop.json("revive", "annual", "--why", "mended")["changed"] is True
        assert shown(server.client) == ["annual"]
    assert "none" in shop.segue("kill", "--list")


def test_every_turn_of_a_switch_is_on_record(shop):
    lines = (shop.home / "kill-switches.jsonl").read_text().splitlines()
    assert [(json.loads(line)["killed"], json.loads(line)["why"]) for line in lines] == [
        (True, "wrong price"), (False, "mended"),
    ]  # fmt: skip


def test_mistakes_are_told_plainly_and_change_nothing(shop):
    assert 'Did you mean "annual"?' in shop.segue("kill", "anual", "--why", "x", expect=2)
    assert "Did you mean" in shop.segue("revive", "anual", expect=2)
    assert "Say why" in shop.segue("kill", "annual", expect=2)
    assert "--list" in shop.segue("kill", expect=2)
    nowhere = ("--redis-url", "redis://127.0.0.1:1")
    assert "can't be asked" in shop.segue("kill", "annual", "--why", "x", *nowhere, expect=2)
    assert shop.json("kill", "--list") == {"killed": []}
    assert len((shop.home / "kill-switches.jsonl").read_text().splitlines()) == 2


def test_an_offer_that_has_left_the_catalog_can_still_be_revived(shop):
    shop.segue("kill", "annual", "--why", "test")
    releases = ReleaseStore(shop.home / "releases")
    before = releases.current()
    without = CATALOG.replace(b"  annual:", b"  yearly:")
    release = releases.publish({"catalog/all.yaml": without}, who="test", why="test", now=0.0)
    releases.activate(release, expected=before, who="test", why="test", now=0.0)
    assert shop.json("revive", "annual")["changed"] is True
    assert "There is no offer" in shop.segue("revive", "annual", expect=2)
