"""What is served is learned from: decisions over HTTP, events, the log as tables, training; and what-ifs on it."""

import json
import random
import time

import pytest

CATALOG = """
features:
  likes_crime: {type: bool, from: context}
surfaces:
  front_page: {slots: 1, fallback: null}
groups:
  passes: {within: 1s}
offers:
  crime_pass: {owner: shop, group: passes, surfaces: [front_page], score: {model: taste, value: 10, prior: 0.2}}
  poetry_pass: {owner: shop, group: passes, surfaces: [front_page], score: {model: taste, value: 9, prior: 0.2}}
holdouts:
  control: {percent: 10, salt: a, show: best_single_offer}
exploration: {uniform: 0.8, challenger: 0}
"""
VISITS = 1200


@pytest.fixture(scope="module")
def served(terminal):
    """A thousand readers who got a pass at random, and bought what they like. Returns how often each was shown."""
    (terminal.home / "catalog").mkdir()
    (terminal.home / "catalog" / "all.yaml").write_text(CATALOG)
    chance, events, shown = random.Random(3), [], []
    with terminal.serving("--catalog", terminal.home / "catalog") as server:
        for number in range(VISITS):
            crime = chance.random() < 0.5
            answer = server.client.decide(f"reader-{number}", "front_page", context={"likes_crime": crime})
            offer = answer["offers"][0]["offer"]
            shown.append(offer)
            told = {"decision_id": answer["decision_id"], "offer": offer, "user_id": f"reader-{number}"}
            if chance.random() < (0.6 if crime == (offer == "crime_pass") else 0.1):
                events.append({"event_id": f"e{number}", "type": "convert", "at": time.time(), **told})
            events.append({"event_id": f"i{number}", "type": "impression", "at": time.time(), **told})
        for start in range(0, len(events), 500):
            status, told = server.client.call("/v1/events", events[start : start + 500] * 2)  # as after a time-out
            assert (status, told["rejected"]) == (200, [])
        time.sleep(1.5)
        server.client.decide("the last", "front_page")
    return shown


def test_the_log_becomes_tables_with_the_chances_it_had(terminal, served):
    told = terminal.json("data", "import", "log")
    held = told["left_out"]["decisions of held-out users, who are kept out of training"]
    assert told["decisions"] + held == VISITS + 1
    assert 60 < held < 180
    assert told["events_ignored"]["events that were reported again"] > 300
    assert told["outcomes"] > 300


def test_training_learns_from_them_that_tastes_differ(terminal, served):
    result = terminal.json("train", "--seed", 1)
    assert result["source"] == "log"
    assert result["decisions"] > 900
    records = {one["policy"]: one for one in result["policy_values"] if one["estimator"] == "dr"}
    assert records["logging"]["value"] > 1.5
    assert result["auc"] > 0.6


def test_the_recorded_decisions_are_replayed(terminal, served):
    assert terminal.json("replay", "--last", "all")["identical"] == VISITS + 1


def test_another_catalog_is_judged_on_them_and_a_threshold_stops_it(terminal, served, tmp_path):
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "all.yaml").write_text(CATALOG.replace("value: 9", "value: 90"))
    found = terminal.json("whatif", "--catalog", draft, "--last", "all")
    assert found["decisions"] == VISITS + 1
    assert found["changed_share"] == pytest.approx(1.0)
    assert {flow["to"] for flow in found["flows"]} == {"poetry_pass"}
    told = terminal.segue("whatif", "--catalog", draft, "--fail-if", "changed>20%", "--markdown", expect=1)
    assert "Traceback" not in told
    assert terminal.json("whatif", "--fail-if", "changed>0")["identical"]


def test_a_lever_is_found_on_them(terminal, served):
    found = terminal.json("catalog", "lever", "poetry_pass", "--share", "50%", "--last", "all")
    assert found["share_now"] == 0.0
    assert found["lever"] == pytest.approx(1.112, abs=0.002)
    assert found["share"] == pytest.approx(0.9, abs=0.03)  # all but the held out, whom no lever moves
    told = terminal.segue("catalog", "lever", "poetry_pass", "--share", "0.95")
    assert "No lever gives it 95.00%" in told


def test_a_version_is_judged_on_them(terminal, served):
    found = terminal.json("whatif", "--version", "challenger", "--last", "all")
    assert "taste/1" in found["after"]
    assert found["decisions"] == VISITS + 1
    json.dumps(found, allow_nan=False)
