import json

import pandas as pd
import pytest

from decisioning.catalog import FeatureSpec
from decisioning.catalog import FeatureType as T
from features.distribution import distribution
from features.snapshots import build_snapshot

NOW = pd.Timestamp("2026-11-22", tz="UTC")
SPECS = {
    "visits": FeatureSpec("visits", T.INT),
    "spent": FeatureSpec("spent", T.FLOAT),
    "channel": FeatureSpec("channel", T.ENUM, ("web", "tv")),
    "newbie": FeatureSpec("newbie", T.BOOL),
    "addons": FeatureSpec("addons", T.SET, ("hifi", "books")),
    "renews": FeatureSpec("renews", T.TIME),
    "never": FeatureSpec("never", T.FLOAT),
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    data = tmp_path_factory.mktemp("home") / "data"
    data.mkdir()
    ids = pd.array([f"d{n}" for n in range(5)], dtype="string")
    facts = {
        "decision_id": ids,
        "visits": pd.array([1, 2, 3, 4, None], dtype="Int64"),
        "spent": [0.5, 1.5, None, None, None],
        "channel": pd.array(["web", "web", "tv", None, "web"], dtype="string"),
        "newbie": pd.array([True, False, False, None, False], dtype="boolean"),
        "addons": [["hifi"], ["hifi", "books"], [], None, []],
        "renews": pd.to_datetime([NOW - pd.Timedelta(days=2), None, NOW, None, None], utc=True),
        "never": [None] * 5,
    }
    pd.DataFrame(facts).astype({"never": "float64"}).to_parquet(data / "facts.parquet")
    decisions = {"decision_id": ids, "user_id": [f"u{n}" for n in range(5)], "at": [NOW] * 5}
    pd.DataFrame(decisions).astype({"user_id": "string"}).to_parquet(data / "decisions.parquet")
    told = [{"name": spec.name, "type": str(spec.type), "values": list(spec.values)} for spec in SPECS.values()]
    (data / "dataset.json").write_text(json.dumps({"features": {"features": told}}))
    return build_snapshot(data, data.parent / "snapshots")


def test_numbers_have_quantiles_and_a_mean(snapshot):
    found = distribution(snapshot, SPECS["visits"])
    assert (found.rows, found.missing) == (5, pytest.approx(0.2))
    assert found.numbers == {"min": 1.0, "p10": 1.3, "median": 2.5, "p90": 3.7, "max": 4.0, "mean": 2.5}
    assert distribution(snapshot, SPECS["spent"]).missing == pytest.approx(0.6)


def test_words_flags_and_sets_have_shares_of_what_is_known(snapshot):
    assert distribution(snapshot, SPECS["channel"]).shares == {"web": 0.75, "tv": 0.25}
    assert distribution(snapshot, SPECS["newbie"]).shares == {"no": 0.75, "yes": 0.25}
    assert distribution(snapshot, SPECS["addons"]).shares == {"hifi": 0.5, "books": 0.25}


def test_a_moment_is_told_as_days_before_the_snapshot(snapshot):
    found = distribution(snapshot, SPECS["renews"]).numbers
    assert (found["min"], found["max"]) == (0.0, 2.0)


def test_of_what_nobody_has_nothing_is_told(snapshot):
    found = distribution(snapshot, SPECS["never"])
    assert (found.missing, found.numbers, found.shares) == (1.0, {}, {})
