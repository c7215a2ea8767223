"""POST /v1/decisions: what is answered, and what is written down."""

import pytest

from decisioning.identity import user_key
from serving.runtime import NOTHING_LOADED, Current
from stores.log.decision_log import decode


def decide(client, body: dict) -> dict:
    answer = client.post("/v1/decisions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_answer_has_every_field_of_the_contract(client, ask):
    answer = decide(client, ask)
    assert set(answer) == {
        "decision_id", "surface", "offers", "source", "degraded", "release", "model", "expires_at",
    }  # fmt: skip
    assert answer["source"] == "model"
    assert answer["model"] == "flat/1"
    assert answer["release"] == "r1"
    assert answer["degraded"] == []
    assert answer["expires_at"] == "2027-01-15T08:05:00.000Z"
    (offer,) = answer["offers"]
    assert set(offer) == {"offer", "slot", "creative", "p_convert", "score", "probability"}
    assert offer["slot"] == 1
    assert 0 < offer["probability"] <= 1


def test_the_best_offer_comes_with_its_creative_in_the_users_language(client, ask):
    shown = decide(client, ask | {"surface": "shelf", "context": {"locale": "sv-SE"}})["offers"]
    by_name = {one["offer"]: one for one in shown}
    assert by_name["annual"]["creative"] == "annual-winter.sv"
    assert by_name["annual"]["p_convert"] == pytest.approx(0.1)
    assert by_name["annual"]["score"] == pytest.approx(4.0)


def test_an_unknown_user_gets_an_answer_that_says_so(client, ask):
    answer = decide(client, ask | {"user_id": "nobody"})
    assert answer["degraded"] == ["features:unknown_user"]
    assert answer["offers"][0]["offer"] == "generic", "without consent only the fallback is left"


def test_an_unknown_surface_is_404_and_names_the_known_ones(client, ask):
    answer = client.post("/v1/decisions", json=ask | {"surface": "elsewhere"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["field"] == "surface"
    assert "banner, shelf, sticky" in error["message"]
    assert "elsewhere" not in answer.text


def test_fewer_slots_than_the_surface_has_are_honoured(client, ask):
    assert len(decide(client, ask | {"surface": "shelf", "slots": 2})["offers"]) == 2


def test_an_excluded_offer_is_not_shown_and_an_unknown_one_does_no_harm(client, ask):
    answer = decide(client, ask | {"surface": "shelf", "exclude": ["annual", "no-such-offer"], "explain": True})
    assert "annual" not in {one["offer"] for one in answer["offers"]}
    assert {"offer": "annual", "stage": "excluded"}.items() <= answer["reasons"][0].items()


def test_explain_gives_a_reason_for_each_offer_that_is_not_shown(client, ask):
    answer = decide(client, ask | {"explain": True})
    shown = {one["offer"] for one in answer["offers"]}
    reasons = {one["offer"]: one for one in answer["reasons"]}
    assert set(reasons) == {"annual", "student", "generic"} - shown
    assert {"outranked"} == {one["stage"] for one in reasons.values()}
    assert "reasons" not in decide(client, ask)


def test_a_decision_is_logged_with_the_users_key_and_never_the_id(client, ask, runtime, tmp_path):
    answer = decide(client, ask | {"user_id": "ann", "context": {"device": "phone"}})
    (line,) = [line for file in (tmp_path / "decisions").glob("*") for line in file.read_bytes().splitlines()]
    record = decode(line)
    assert record.decision.decision_id == answer["decision_id"] == record.request.decision_id
    assert record.request.user == user_key(runtime.secret, "ann")
    assert record.request.context == {"device": "phone"}
    assert record.facts.features == {"consent": True, "sessions": 4}
    assert b'"ann"' not in line
    assert {"parse", "read", "decide"} <= set(record.durations)


def test_a_dry_run_decides_and_leaves_no_trace(client, ask, logged, runtime):
    answer = decide(client, ask | {"dry_run": True})
    assert answer["decision_id"]
    assert answer["offers"]
    assert logged("decisions") == []


def test_each_request_is_a_decision_of_its_own_unless_the_surface_is_sticky(client, ask):
    assert decide(client, ask)["decision_id"] != decide(client, ask)["decision_id"]
    first, again = (decide(client, ask | {"surface": "sticky"}) for _ in range(2))
    assert first == again
    other = decide(client, ask | {"surface": "sticky", "user_id": "bob"})
    assert other["decision_id"] != first["decision_id"]


def test_a_sticky_answer_keeps_for_the_surfaces_period(client, ask):
    assert decide(client, ask | {"surface": "sticky"})["expires_at"] == "2027-01-15T09:00:00.000Z"


def test_impressions_fill_the_cap_of_later_decisions(client, ask, event):
    for number in range(2):
        sent = client.post("/v1/events", json=event | {"event_id": f"e{number}"})
        assert sent.json()["accepted"] == 1
    reasons = {one["offer"]: one["stage"] for one in decide(client, ask | {"explain": True})["reasons"]}
    assert reasons["annual"] == "cap"


def test_context_names_that_nobody_declared_are_ignored_and_counted(client, ask):
    answer = decide(client, ask | {"context": {"shoe_size": 44, "hat": None, "sessions": 99, "device": "phone"}})
    assert answer["degraded"] == ["context:unknown_names:3"], "a snapshot's feature can't be sent either"


def test_context_values_that_nobody_declared_count_as_missing(client, ask, logged):
    answer = decide(client, ask | {"surface": "shelf", "context": {"device": "fridge", "genres": ["jazz", "polka"]}})
    assert answer["degraded"] == ["context:undeclared_values:2"]
    assert logged("decisions")[0]["request"]["context"] == {"genres": ["jazz"]}
    assert "vinyl" not in {one["offer"] for one in answer["offers"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", 5),
        ("device", "x" * 300),
        ("device", ["phone"]),
        ("genres", "jazz"),
        ("genres", ["jazz", 1]),
        ("is_roaming", 1),
        ("is_roaming", "yes"),
        ("battery", "0.5"),
        ("battery", True),
        ("battery", 10**400),
        ("queue", 1.5),
        ("queue", True),
        ("queue", 2**60),
        ("started", "2026-01-01T00:00:00"),
        ("started", "yesterday"),
        ("timezone", {"a": 1}),
        ("locale", 7),
    ],
)
def test_a_declared_context_value_of_another_type_is_422_and_named(client, ask, name, value):
    answer = client.post("/v1/decisions", json=ask | {"context": {name: value}})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == f"context.{name}"


@pytest.mark.parametrize(
    "context",
    [
        {"device": "tv", "genres": [], "is_roaming": False, "battery": 1, "queue": -1, "started": 0},
        {"started": "2026-01-01T00:00:00+05:30", "battery": 0.25, "timezone": "../../etc/passwd"},
        {"device": None, "genres": None, "locale": None, "timezone": ""},
    ],
)
def test_well_typed_contexts_are_taken(client, ask, context):
    assert decide(client, ask | {"context": context})["degraded"] == []


def test_without_a_release_every_surface_is_unknown_and_the_server_is_not_ready(client, ask, runtime):
    runtime.current = NOTHING_LOADED
    assert client.post("/v1/decisions", json=ask).status_code == 404
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["error"]["code"] == "no_release"


def test_a_release_without_scorers_decides_by_rules(client, ask, runtime, release):
    runtime.current = Current.of(type(release)("bare", release.catalog))
    answer = decide(client, ask)
    assert answer["source"] == "rules"
    assert answer["model"] == "none"
    assert answer["offers"]


def test_a_decision_that_fails_is_answered_with_no_offer(client, ask, runtime, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("decisioning.engine.decide", broken)
    answer = decide(client, ask)
    assert answer["source"] == "none"
    assert answer["offers"] == []
    assert answer["degraded"] == ["engine:failed"]


@pytest.mark.parametrize("part", ["explain", "with_changes"])
def test_an_explanation_that_fails_costs_no_more_than_the_reasons(client, ask, logged, monkeypatch, part):
    def broken(*_, **__):
        raise IndexError

    monkeypatch.setattr(f"serving.deciding.safely.{part}", broken)
    answer = decide(client, ask | {"explain": True})
    assert answer["offers"]
    assert "reasons" not in answer
    assert len(logged("decisions")) == 1
