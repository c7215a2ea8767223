"""`segue features build` and `backfill` as people and nightly jobs use them."""

import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.simulator.tables import simulate
from stores.home import Home
from workbench import SAMPLE_CATALOG


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    where = Home(tmp_path_factory.mktemp("home"))
    simulate(where, SAMPLE_CATALOG, users=60, days=6, seed=2, until=date(2026, 11, 22))
    return where


@pytest.fixture
def run(home, monkeypatch, here):
    """Runs a verb on this home in this process: its exit code, and what it said on both streams."""
    monkeypatch.setenv("SEGUE_HOME", str(home.path))
    return here


def test_a_range_of_days_then_the_end_then_a_new_feature_and_bad_events(run, home):
    code, out, _ = run("features", "build", "--from", "2026-11-19", "--to", "2026-11-21", "--json")
    days = json.loads(out)["snapshots"]
    assert (code, [name[:8] for name in days]) == (0, ["20261119", "20261120", "20261121"])
    assert not (home.snapshots / "current").exists()

    code, out, _ = run("features", "build", "--json")
    told = json.loads(out)
    assert (code, told["built"]["how"], told["built"]["from"]) == (0, "incremental", days[-1])
    assert json.loads(run("features", "build", "--full", "--json")[1])["built"]["how"] == "full"

    code, out, _ = run("features", "backfill", "minutes_90d", "--daily", "--json")
    told = json.loads(out)
    assert (code, told["known"]) == (0, {"minutes_90d": told["rows"]})
    code, _, said = run("features", "backfill", "minutes_90d")
    assert (code, "--replace computes it anew" in said) == (2, True)
    code, _, said = run("features", "backfill", "minuts_90d")
    assert (code, 'Did you mean "minutes_90d"?' in said) == (2, True)

    current = (home.snapshots / "current").read_text()
    events = pq.read_table(home.data / "events.parquet")
    naive = events["at"].cast(pa.timestamp("us"))
    pq.write_table(events.set_column(1, "at", naive), home.data / "events.parquet")
    code, _, said = run("features", "build")
    assert (code, "events.parquet: at has no time zone" in " ".join(said.split())) == (2, True)
    assert (home.snapshots / "current").read_text() == current


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "2026-11-19"),
        ("--to", "2026-11-19"),
        ("--as-of", "2026-11-19", "--from", "2026-11-18", "--to", "2026-11-19"),
    ],
)
def test_half_a_range_is_refused(run, words):
    code, _, said = run("features", "build", *words)
    assert (code, "--from and --to together" in said) == (2, True)
