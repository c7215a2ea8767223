"""POST /v1/events: what is accepted, rejected, counted once, and written down."""

import pytest

from features.schema import Schema

NOW = 1_800_000_000.0


def report(client, body) -> dict:
    answer = client.post("/v1/events", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_event_is_accepted_and_logged_with_the_users_key(client, event, logged):
    assert report(client, event | {"surface": "banner", "value": 2}) == {
        "accepted": 1, "rejected": [], "duplicates": 0, "degraded": [],
    }  # fmt: skip
    (line,) = logged("events")
    assert line["user"] != "ann"
    assert len(line["user"]) == 32
    assert line | {"user": ""} == {
        "event_id": "e1", "type": "impression", "decision_id": "d1", "offer": "annual", "user": "",
        "surface": "banner", "at": NOW, "value": 2.0,
    }  # fmt: skip


def test_the_same_event_again_is_accepted_and_changes_nothing(client, event, ask):
    first = report(client, event)
    again = report(client, [event, event, event])
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert (again["accepted"], again["duplicates"]) == (3, 3)
    answer = client.post("/v1/decisions", json=ask | {"explain": True}).json()
    assert "cap" not in {one["stage"] for one in answer["reasons"]}, "four reports of one impression stay one"


def test_a_list_is_judged_event_by_event(client, event):
    events = [
        event,
        event | {"event_id": "e2", "offer": "no-such-offer"},
        event | {"event_id": "e3", "at": NOW + 301},
        event | {"event_id": "e4", "at": NOW * 1000},
        event | {"event_id": "e5", "at": "2026-02-01T00:00:00"},
        {"event_id": "e6"},
        17,
        event | {"event_id": "e7", "surface": "elsewhere"},
        event | {"event_id": "e8", "at": "1970-01-02T00:00:00Z"},
        event | {"event_id": "e9", "offer": "nothing", "type": "visit"},
    ]
    answer = report(client, events)
    assert answer["accepted"] == 2
    reasons = {one["index"]: one for one in answer["rejected"]}
    assert sorted(reasons) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert reasons[1] == {"index": 1, "event_id": "e2", "reason": "The offer is not in the catalog."}
    assert "future" in reasons[2]["reason"]
    assert "milliseconds" in reasons[3]["reason"]
    assert "timezone" in reasons[4]["reason"]
    assert reasons[5]["reason"] == "The field type is missing."
    assert "surface" in reasons[7]["reason"]
    assert "2000" in reasons[8]["reason"]


@pytest.mark.parametrize("at", [NOW, NOW + 299, int(NOW), "2027-01-15T08:00:00Z", "2027-01-15T13:30:00.250+05:30"])
def test_a_moment_may_be_rfc_3339_or_seconds(client, event, logged, at):
    assert report(client, event | {"at": at})["accepted"] == 1
    assert logged("events")[0]["at"] == pytest.approx(NOW, abs=300)


def test_the_surface_is_that_of_the_decision_and_needs_not_be_sent(client, ask, event, logged):
    decision = client.post("/v1/decisions", json=ask | {"surface": "shelf"}).json()
    report(client, event | {"decision_id": decision["decision_id"], "surface": "banner"})
    report(client, event | {"event_id": "e2", "decision_id": "of another server", "surface": "banner"})
    report(client, event | {"event_id": "e3", "decision_id": "of another server"})
    assert [line["surface"] for line in logged("events")] == ["shelf", "banner", ""]


def test_a_type_with_a_line_end_is_no_type(client, event):
    assert client.post("/v1/events", json=event | {"type": "impression\n"}).status_code == 422


def test_a_single_event_of_wrong_shape_is_422_with_the_field(client, event):
    answer = client.post("/v1/events", json=event | {"value": "much"})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "value"


def test_more_events_than_a_request_may_hold_are_refused(client):
    answer = client.post("/v1/events", json=[1] * 1001)
    assert answer.status_code == 422
    assert "1000" in answer.json()["error"]["message"]


def test_an_empty_list_is_nothing_done(client):
    assert report(client, [])["accepted"] == 0


def test_only_impressions_spend_a_budget(client, event, store):
    report(client, [event, event | {"event_id": "e2", "type": "click"}, event | {"event_id": "e3", "offer": "student"}])
    assert client.run(store.read("nobody", Schema(()), ["winter"])).budgets == {"winter": 1}


def test_a_type_that_no_rule_knows_is_kept_and_said_as_it_may_be_a_typo(client, event, logged):
    assert report(client, event | {"type": "impresion", "surface": "banner"})["degraded"] == ["event:unknown_type"]
    assert logged("events")[0]["type"] == "impresion"


@pytest.mark.parametrize("decision_id", ["d1", "0123456789abcdef0123456789abcdef"])
def test_an_event_of_which_nobody_says_the_surface_is_kept_and_said_as_its_decision_id_may_be_cut_off(
    client, event, logged, decision_id
):
    sent = event | {"decision_id": decision_id}
    assert report(client, sent)["degraded"] == ["event:no_surface"]
    assert report(client, sent | {"event_id": "e2", "surface": "banner"})["degraded"] == []
    assert report(client, sent | {"event_id": "e3", "decision_id": f"{OURS}.banner"})["degraded"] == []
    assert [line["surface"] for line in logged("events")] == ["", "banner", "banner"]


OURS = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "sent",
    [
        {"offer": "last_summer", "decision_id": f"{OURS}.banner"},
        {"offer": "annual", "decision_id": f"{OURS}.old_home", "surface": "old_home"},
        {"offer": "last_summer", "decision_id": f"{OURS}.old_home"},
    ],
)
def test_what_followed_an_offer_or_a_surface_that_has_retired_since_is_kept_and_not_counted(
    client, event, logged, store, sent
):
    answer = report(client, event | sent)
    assert (answer["accepted"], answer["rejected"], answer["degraded"]) == (1, [], ["event:retired"])
    [line] = logged("events")
    assert (line["offer"], line["surface"]) == (sent["offer"], sent["decision_id"].partition(".")[2])
    assert client.run(store.read(line["user"], Schema(()), ["winter"])).history == ()


def test_an_unknown_offer_of_somebody_elses_decision_is_still_a_mistake(client, event):
    answer = report(client, event | {"offer": "anual", "decision_id": "theirs.banner"})
    assert answer["rejected"][0]["reason"] == "The offer is not in the catalog."
