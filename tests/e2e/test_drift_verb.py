"""`segue drift` as people and nightly jobs use it."""

import json
from datetime import date

import pytest

from evaluation.simulator.tables import simulate
from stores.home import Home
from workbench import SAMPLE_CATALOG

END = "2026-11-22"
WITHIN_36_HOURS = [
    *("ads_heard_7d", "days_since_last_session", "minutes_7d", "offers_seen_7d", "sessions_7d", "skips_limited_7d")
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    where = Home(tmp_path_factory.mktemp("home"))
    simulate(where, SAMPLE_CATALOG, users=300, days=8, seed=2, until=date.fromisoformat(END))
    return where


@pytest.fixture
def run(home, monkeypatch, here):
    """Runs a verb on this home in this process: its exit code, and what it said on both streams."""
    monkeypatch.setenv("SEGUE_HOME", str(home.path))
    return here


def test_drift_of_snapshots_from_the_first_message_to_the_report(run, home, tmp_path):
    code, _, said = run("drift")
    assert (code, "segue features build" in said) == (2, True)
    run("features", "build")
    current = (home.snapshots / "current").read_text()
    code, _, said = run("drift")
    assert (code, "--as-of" in said) == (2, True)
    for day in (17, 18, 19, 20, 21):
        assert run("features", "build", "--as-of", f"2026-11-{day}")[0] == 0
    assert (home.snapshots / "current").read_text() == current

    code, told, _ = run("drift", "--until", f"{END}T06:00:00", "--report", tmp_path / "drift.html")
    assert (code, "None of 30 drifted" in told, "fresh 6 features: age 6.0 h, may be 36.0 h" in told) == (0, True, True)
    assert max(map(len, told.splitlines())) <= 80
    assert "None of 30 drifted" in (tmp_path / "drift.html").read_text()

    code, told, _ = run("drift", "--until", "2026-11-24", "--json")
    assert (code, json.loads(told)["stale"], json.loads(told)["drifted"]) == (1, WITHIN_36_HOURS, [])


def test_the_age_of_what_is_published_counts_too(run, home, valkey_url, monkeypatch):
    monkeypatch.setenv("SEGUE_NAMESPACE", "drift-verb")
    run("features", "build")
    run("features", "build", "--as-of", "2026-11-21")
    ask = ("drift", "--until", f"{END}T06:00:00", "--redis-url", valkey_url, "--json")
    code, told, _ = run(*ask)
    assert (code, json.loads(told)["notes"]) == (0, ["Nothing is published in the online store."])
    run("features", "publish", "--redis-url", valkey_url)
    code, told, _ = run(*ask)
    names = [one["name"] for one in json.loads(told)["freshness"]]
    assert (code, len(names), len(set(names))) == (0, 60, 60)
    assert {"sessions_7d", "sessions_7d, published"} <= {*names}
    assert "fresh 6 features, published: age 6.0 h" in run(*ask[:-1])[1]
    code, _, said = run("drift", "--redis-url", "redis://127.0.0.1:1")
    assert (code, "The online store can't be read" in said) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--log",), "There are no decisions in"),
        (("--log", "--last", "soon"), "--last takes a number of decisions, a time such as 7d"),
        (("--log", "--last", "1000"), "two equal spans of time"),
        (("--log", "--from", "x"), "one of the two"),
        (("--from", "20200101T000000Z-0000"), "holds no readable snapshot"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run, words, message):
    code, _, said = run("drift", *words)
    assert (code, message in said) == (2, True)
