"""`segue features list | explain | sql` as people use them."""

import json
import sys
from datetime import date
from functools import partial

import pytest
import sqlglot

import segue
from evaluation.simulator.tables import simulate
from stores.home import Home
from workbench import SAMPLE_CATALOG


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    where = Home(tmp_path_factory.mktemp("home"))
    simulate(where, SAMPLE_CATALOG, users=200, days=2, seed=2, until=date(2026, 11, 22))
    return where


@pytest.fixture
def run(home, monkeypatch, here):
    """Runs a verb on this home in this process: its exit code, and what it said on both streams."""
    monkeypatch.setenv("SEGUE_HOME", str(home.path))
    return partial(here, "features")


def test_the_list_fits_a_terminal_and_names_every_owner(run):
    code, told, _ = run("list")
    assert code == 0
    assert max(map(len, told.splitlines())) <= 80
    assert "skips_limited_per_session_28d" in told
    features = json.loads(run("list", "--json")[1])["features"]
    assert len(features) >= 47
    merch = json.loads(run("list", "--owner", "merch", "--json")[1])["features"]
    assert {one["owner"] for one in merch} == {"merch"}
    code, _, said = run("list", "--owner", "nobody")
    assert (code, "There are: artists, audiobooks, growth" in said) == (2, True)
    assert run("list", "--markdown")[1].count("| `") >= 40


def test_a_feature_is_explained_with_its_snapshot_and_its_readers(run):
    assert "distribution" not in run("explain", "tier")[1]  # no snapshot yet
    assert run("build")[0] == 0
    code, told, _ = run("explain", "tier")
    assert code == 0
    for words in (
        "the plan that the user is on",
        "p.state(seen",
        "owner: growth",
        "free: ",
        "max age: 3d",
        "audience ",
    ):
        assert words in told, words
    assert "MAX(" not in told
    assert "MAX(" in run("explain", "tier", "--sql")[1]
    found = json.loads(run("explain", "minutes_28d", "--json")[1])
    assert found["snapshot"]["rows"] == 200
    assert found["snapshot"]["numbers"]["max"] > found["snapshot"]["numbers"]["median"] >= 0
    assert found["models"] == []  # there is no release
    assert run("explain", "device")[0] == 0
    code, _, said = run("explain", "teir")
    assert (code, said) == (2, 'Error: There is no feature "teir". Did you mean "tier"?\n')


def test_the_query_holds_the_catalogs_features_and_can_be_narrowed(run):
    code, told, _ = run("sql", "--dialect", "bigquery", "--as-of", "2026-11-22", "--events", "lake.events")
    assert code == 0
    tree = sqlglot.parse_one(told, read="bigquery")
    assert ("lake", "events") in {(table.db, table.name) for table in tree.find_all(sqlglot.exp.Table)}
    assert "minutes_28d" in told
    assert "minutes_trend" not in told  # defined, and not in the catalog
    asked = ("sql", "--dialect", "duckdb", "--observations", "asked", "--feature", "minutes_trend")
    assert "minutes_trend" in run(*asked)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dialect", "oracle", "--as-of", "2026-11-22"), "duckdb, spark, bigquery are what there is"),
        (("--dialect", "duckdb"), "name one"),
        (("--dialect", "duckdb", "--as-of", "2026-11-22", "--feature", "device"), "device is not computed from events"),
        (("--dialect", "duckdb", "--as-of", "2026-11-22", "--feature", "teir"), 'Did you mean "tier"'),
        (("--dialect", "duckdb", "--as-of", "2026-11-22", "--events", "a..b"), "a..b names no table"),
        (("--dialect", "bigquery", "--as-of", "2026-11-22", "--events", "`my-lake.a.b`"), "without quotes"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(run, words, message):
    code, told, said = run("sql", *words)
    assert (code, told, message in said) == (2, "", True)


def test_ctrl_c_ends_with_130_and_says_so(monkeypatch, capsys, tmp_path):
    def interrupted(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("features.backfill.backfill", interrupted)
    monkeypatch.setattr(sys, "argv", ["segue", "features", "backfill", "tier", "--home", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        segue.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "Stopped.\n")
