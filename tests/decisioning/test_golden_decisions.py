"""Decisions that must never change unnoticed: the whole record, byte for byte.

A change that is meant shows in the diff of the golden file: write it again with UPDATE_GOLDEN=1.
"""

import json
import os
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request, Scores
from decisioning.engine import Release, decide
from decisioning.explain import explain

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = 1_795_348_800.0  # 2026-11-22T12:00Z
HOUR, DAY = 3_600.0, 86_400.0
FREE = {"tier": "free", "sessions_7d": 5, "consent": True}

CASES = {
    "an engaged free listener": (FREE, "banner", {}),
    "a swedish phone": (FREE, "banner", {"context": {"locale": "sv-SE", "device": "phone"}}),
    "a tv": (FREE, "banner", {"context": {"device": "tv"}}),
    "three slots": (FREE, "shelf", {}),
    "two slots, one offer excluded": (FREE, "shelf", {"slots": 2, "exclude": frozenset({"vinyl"})}),
    "a premium listener on the banner": ({"tier": "premium", "consent": True}, "banner", {}),
    "a premium listener on the shelf": ({"tier": "premium", "consent": True}, "shelf", {}),
    "a stranger": ({}, "banner", {}),
    "no consent for a push": ({**FREE, "consent": False}, "push", {}),
    "unknown consent for a push": ({"tier": "free", "sessions_7d": 5}, "push", {}),
    "a push in the user's night": (FREE, "push", {"context": {"timezone": "Pacific/Auckland"}}),
    "a push in the user's day": (FREE, "push", {"context": {"timezone": "Europe/Stockholm"}}),
    "after the day pass has ended": (FREE, "banner", {"now": NOW + 9 * DAY}),
    "stale sessions": (FREE, "banner", {"now": NOW + 2 * DAY}),
}
HISTORIES = {
    "a dismissed offer": [("dismiss", "day_pass", DAY)],
    "a capped offer": [("impression", "day_pass", DAY), ("impression", "day_pass", 2 * DAY)],
    "an exclusive story": [("impression", "annual", HOUR)],
}


class Hashed:
    """A scorer whose probabilities follow from names alone: the same on every machine."""

    label = "upsell/7"

    def score(self, features, surface, offers):
        found = [self._p(f"{features.get('tier')}|{surface}|{offer}") for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers):
        found = [self._p(f"{surface}|{offer}") for offer in offers]
        return Scores(found, found)

    @staticmethod
    def _p(text):
        return int.from_bytes(blake2b(text.encode(), digest_size=2).digest()) / 1_000_000


@pytest.fixture(scope="module")
def release():
    files = {"all.yaml": (GOLDEN / "catalog" / "all.yaml").read_bytes()}
    return Release("golden", load_catalog(files), {"upsell": Hashed()}, salt="s")


def facts(features, events=(), **changes):
    history = tuple(HistoryEvent(type, offer, "banner", NOW - age) for type, offer, age in events)
    return Facts(features=features, as_of=NOW if features else None, history=history, **changes)


def told(release, request, some_facts):
    decision = decide(release, request, some_facts)
    return decision, explain(release, request, some_facts, decision)


def decisions(release):
    """Each case's decision, with its explanation."""
    for user in ("user-a", "user-b", "user-be"):
        for name, (features, surface, more) in CASES.items():
            request = Request(**{"decision_id": f"{user}/{name}", "user": user, "surface": surface, "now": NOW, **more})
            yield told(release, request, facts(features))
        for name, events in HISTORIES.items():
            request = Request(f"{user}/{name}", user, "banner", NOW)
            yield told(release, request, facts(FREE, events))
        down = Facts(unread=frozenset({"features", "history", "budgets", "killed"}), degraded=("store:down",))
        yield told(release, Request(f"{user}/the store is down", user, "banner", NOW), down)


def test_golden_decisions_come_out_as_recorded(release):
    file = GOLDEN / "decisions.json"
    found = json.loads(json.dumps([{**asdict(d), "because": asdict(why)} for d, why in decisions(release)]))
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(found, indent=1) + "\n")
    recorded = {one["decision_id"]: one for one in json.loads(file.read_text())}
    assert [one["decision_id"] for one in found] == list(recorded)
    for one in found:
        assert one == recorded[one["decision_id"]]


def test_the_golden_cases_meet_every_kind_of_rule(release):
    told = list(decisions(release))
    stages = {reason.stage for _, explanation in told for reason in explanation.reasons}
    sources = {decision.source for decision, _ in told}
    assert stages >= {"excluded", "live", "eligible", "guard", "suppressed", "quiet_hours", "exclusive", "cap"}
    assert sources == {"model", "rules", "fallback", "none"}
    assert any(decision.holdout for decision, _ in told)
    assert any(decision.policy and decision.first != decision.policy.champion for decision, _ in told)
