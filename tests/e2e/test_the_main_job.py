"""The README, as tests: one's own history → features → train → promote → publish → serve → decide → event → replay.

The tests of this file are one story, told in order in one work folder.
"""

import json
import os
import shutil
import signal
import time
import uuid
from pathlib import Path

import pytest

from decisioning.catalog_yaml import load_catalog
from demo_check import Client, exercise
from stores.catalog_files import read_catalog_files
from stores.embedded import running

POLICIES = {"best_single_offer", "trained", "logging", "random"}
KEYS = {"policy", "outcome", "estimator", "value", "low", "high", "diff", "diff_low", "diff_high", "n", "ess"}


def figures(records, policy, outcome="convert", estimator="dr"):
    return next(r for r in records if (r["policy"], r["outcome"], r["estimator"]) == (policy, outcome, estimator))


def test_serving_before_anything_exists_says_what_to_do(terminal):
    assert "run `segue train`" in terminal.segue("decide", "reader-1", "front_page", expect=2)
    assert "segue data import" in terminal.segue("train", expect=2)


def test_ones_own_history_is_imported(terminal, history):
    files = [word for name in ("facts", "decisions", "outcomes") for word in (f"--{name}", history / f"{name}.csv")]
    terminal.segue("data", "import", "tables", *files)
    assert (terminal.home / "data" / "decisions.parquet").is_file()


def test_a_broken_history_is_refused_with_its_row_and_changes_nothing(terminal, history, tmp_path):
    before = (terminal.home / "data" / "decisions.parquet").read_bytes()
    broken = tmp_path / "decisions.csv"
    lines = (history / "decisions.csv").read_text().splitlines()
    broken.write_text("\n".join([*lines[:5], lines[5].replace(",0.5", ",1.5"), *lines[6:]]) + "\n")
    files = ["--facts", history / "facts.csv", "--decisions", broken, "--outcomes", history / "outcomes.csv"]
    message = terminal.segue("data", "import", "tables", *files, expect=2)
    assert "probability" in message
    assert "5" in message
    assert "Traceback" not in message
    assert (terminal.home / "data" / "decisions.parquet").read_bytes() == before


def test_the_starter_catalog_passes_its_check(terminal):
    checked = terminal.json("catalog", "check")
    assert checked["ok"]
    assert checked["offers"] >= 2


def test_features_are_built(terminal):
    assert terminal.json("features", "build")["users"] == 8000


def test_a_product_manager_sees_how_many_users_each_offer_reaches(terminal, tmp_path):
    catalog = tmp_path / "catalog"
    shutil.copytree(terminal.home / "catalog", catalog)
    (catalog / "guard.yaml").write_text(
        "guards: {crime_fans: {require: {likes_crime: true, country: SE}, only: {offer: crime_pass}}}\n"
    )
    found = terminal.json("catalog", "reach", catalog)
    assert found["users"] == 8000
    reached = {one["offer"]: one for one in found["reach"]}
    assert reached["poetry_pass"]["eligible"] == 8000
    [drop] = reached["crime_pass"]["dropped"]
    assert (drop["rule"], drop["where"]) == ("crime_fans", "guard.yaml:1")
    assert 8000 - drop["users"] == reached["crime_pass"]["eligible"]
    assert 1500 < reached["crime_pass"]["eligible"] < 2500  # a quarter of them
    told = terminal.segue("catalog", "reach", catalog)
    assert "crime_fans: only where" in told
    assert max(map(len, told.splitlines())) <= 80


def test_reach_refuses_what_it_does_not_know(terminal):
    assert "It has: front_page" in terminal.segue("catalog", "reach", "--surface", "back_page", expect=2)
    assert "no readable snapshot" in terminal.segue("catalog", "reach", "--snapshot", "1999", expect=2)
    assert "The context has no mood" in terminal.segue("catalog", "reach", "--context", "mood=dark", expect=2)


def test_training_shows_its_worth_against_the_best_single_offer(terminal):
    result = terminal.json("train", "--config", "logistic", "--seed", 3)
    records = result["policy_values"]
    assert {record["policy"] for record in records} >= POLICIES
    assert all(set(record) >= KEYS for record in records)
    trained = figures(records, "trained")
    assert trained["value"] == pytest.approx(0.20, abs=0.03)
    assert trained["diff_low"] > 0.03
    assert figures(records, "logging")["value"] == pytest.approx(0.125, abs=0.02)


def test_evaluating_writes_the_figures_it_prints(terminal):
    printed = terminal.json("evaluate")
    written = json.loads((terminal.home / "metrics.json").read_text())
    assert written["policy_values"] == printed["policy_values"]


def test_the_model_is_promoted_into_a_release(terminal):
    release = terminal.json("promote", "--why", "it earns more")["release"]
    assert (terminal.home / "releases" / "current").read_text().strip() == release


def test_a_rollback_without_an_earlier_release_says_so(terminal):
    assert "no earlier release" in terminal.segue("rollback", expect=2)


def test_features_are_published_once(terminal):
    assert terminal.json("features", "publish")["changed"]
    if "REDIS_URL" not in os.environ:  # and the embedded store kept them from one command to the next
        assert not terminal.json("features", "publish")["changed"]


@pytest.fixture(scope="module")
def server(terminal):
    with terminal.serving() as server:
        yield server


def test_each_reader_gets_the_pass_they_like(server, history):
    likes = dict(line.split(",")[:2] for line in (history / "facts.csv").read_text().splitlines()[1:200])
    right = 0
    for decision_id, likes_crime in likes.items():
        answer = server.client.decide(f"reader-{decision_id[1:]}", "front_page")
        assert answer["source"] == "model"
        right += answer["offers"][0]["offer"] == ("crime_pass" if likes_crime == "true" else "poetry_pass")
    assert right / len(likes) > 0.9  # 5 % explore, and half of those find the same pass


def test_the_answer_says_why_and_why_not(server):
    answer = server.client.decide("reader-1", "front_page", explain=True, exclude=["poetry_pass"])
    assert [one["offer"] for one in answer["offers"]] == ["crime_pass"]
    assert answer["offers"][0]["probability"] == 1.0
    assert [(r["offer"], r["stage"]) for r in answer["reasons"]] == [("poetry_pass", "excluded")]


def test_a_stranger_is_served_with_defaults(server):
    answer = server.client.decide("nobody-knows-me", "front_page")
    assert answer["offers"]
    assert "features:unknown_user" in answer["degraded"]


def test_an_event_counts_once(server):
    answer = server.client.decide("reader-2", "front_page")
    offer, event = answer["offers"][0]["offer"], uuid.uuid4().hex
    first = server.client.report("impression", "reader-2", answer, offer, event)
    again = server.client.report("impression", "reader-2", answer, offer, event)
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert (again["accepted"], again["duplicates"]) == (1, 1)


LIES = {
    "was shown with probability 0": lambda answer: (
        answer["offers"][0].update(probability=0) if "offers" in answer else 0
    ),
    "no reason was given for": lambda answer: answer.update(reasons=[]) if "reasons" in answer else 0,
    "with everything up was degraded": lambda answer: answer.update(degraded=["x"]) if "reasons" in answer else 0,
    "events (accepted, duplicates, rejected)": lambda answer: (
        answer.update(duplicates=0) if "rejected" in answer else 0
    ),
    "an unknown surface was answered with": lambda answer: answer.pop("error", 0),
}


@pytest.mark.parametrize("complaint", LIES)
def test_the_tours_own_check_sees_when_an_answer_is_wrong(terminal, server, complaint):
    class Lying(Client):
        def call(self, path, body=None, raw=None):
            status, answer = super().call(path, body, raw)
            if path.startswith("/v1"):
                LIES[complaint](answer)
            return status, answer

    catalog = load_catalog(read_catalog_files(terminal.home / "catalog"))
    users = [f"reader-{n}" for n in range(20)]
    assert exercise(server.client, catalog, users) == []
    assert any(complaint in problem for problem in exercise(Lying(server.client.address), catalog, users))


def test_a_product_manager_asks_why_at_the_terminal(terminal, server):
    words = terminal.segue("decide", "reader-3", "front_page")
    assert "crime_pass" in words
    assert "poetry_pass" in words


def test_a_dry_run_leaves_no_record(terminal, server):
    before = terminal.json("replay", "--last", 100_000)["decisions"]
    server.client.decide("reader-4", "front_page", dry_run=True)
    assert terminal.json("replay", "--last", 100_000)["decisions"] == before


def test_every_recorded_decision_comes_out_the_same_again(terminal, server):
    report = terminal.json("replay", "--last", 1000)
    assert report["decisions"] > 190
    assert report["identical"] == report["decisions"]


@pytest.mark.skipif("REDIS_URL" in os.environ, reason="kills the store, which may only be the embedded one")
def test_with_the_store_killed_every_request_is_answered_by_the_rules(terminal):
    with running(terminal.home / "valkey"), terminal.serving() as server:  # ours, so that it can be killed
        assert server.client.decide("reader-5", "front_page")["source"] == "model"
        os.kill(_pid_of_the_store(terminal.home / "valkey"), signal.SIGKILL)
        for _ in range(20):
            answer = server.client.decide("reader-5", "front_page")
            assert answer["source"] in ("rules", "fallback")
            assert answer["degraded"]
            time.sleep(0.02)


def _pid_of_the_store(folder: Path) -> int:
    from redis import Redis

    with running(folder) as url:
        return Redis.from_url(url).info("server")["process_id"]


def test_what_the_rules_alone_decided_is_replayed_too(terminal, tmp_path):
    alone = type(terminal)(tmp_path / "rules", terminal.namespace + "-rules")
    with alone.serving("--catalog", terminal.home / "catalog") as server:
        answer = server.client.decide("reader-1", "front_page")
        assert (answer["source"], answer["model"]) == ("rules", "none")
    (alone.home / "catalog").symlink_to(terminal.home / "catalog")
    assert alone.json("replay")["ok"]


def test_an_impression_counts_for_its_surface_after_a_restart(terminal):
    with terminal.serving() as server:
        answer = server.client.decide("reader-9", "front_page")
    with terminal.serving() as server:
        offer = answer["offers"][0]["offer"]
        assert server.client.report("impression", "reader-9", answer, offer, uuid.uuid4().hex)["accepted"] == 1
    line = json.loads(sorted((terminal.home / "logs" / "events").iterdir())[-1].read_text().splitlines()[-1])
    assert line["surface"] == "front_page"
