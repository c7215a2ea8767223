"""Two snapshots held against each other, through files as they are written."""

import json

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import DAY, FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.frames import DTYPES, encode_column
from features.schema import Schema
from features.snapshot_drift import column, pair, snapshot_drift
from features.snapshots import build_snapshot

NOW = pd.Timestamp("2026-11-22", tz="UTC")
SPECS = (
    FeatureSpec("minutes", FeatureType.FLOAT),
    FeatureSpec("sessions", FeatureType.INT, max_age=1.5 * DAY),
    FeatureSpec("student", FeatureType.BOOL),
    FeatureSpec("tier", FeatureType.ENUM, ("free", "basic", "premium")),
    FeatureSpec("addons", FeatureType.SET, ("books", "hifi")),
    FeatureSpec("renews", FeatureType.TIME),
    FeatureSpec("never", FeatureType.FLOAT),
)
SETS = np.array([[], ["books"], ["hifi"], ["books", "hifi"], None], dtype=object)


def people(random, at, n=1500, **changed):
    sets = SETS[random.choice(5, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])]
    columns = {
        "user_id": [f"u{row}" for row in range(n)],
        "minutes": np.where(random.random(n) < 0.1, np.nan, random.gamma(2, 50, n)),
        "sessions": random.poisson(3, n),
        "student": random.choice([True, False, None], n, p=[0.2, 0.7, 0.1]),
        "tier": random.choice(["free", "basic", None], n, p=[0.7, 0.2, 0.1]),
        "addons": pd.Series(sets),
        "renews": at - pd.to_timedelta(random.exponential(30, n), unit="D"),
        "never": np.full(n, np.nan),
    } | {name: of(random, n) for name, of in changed.items()}
    return pd.DataFrame(columns).astype({"user_id": "string"})


@pytest.fixture
def taken(tmp_path):
    """Takes snapshots on the days given, of whom `people` says."""

    def take(day, specs=SPECS, seed=None, **changed):
        at, data = NOW + pd.Timedelta(days=day), tmp_path / f"data{day}"
        data.mkdir()
        facts = people(np.random.default_rng(day if seed is None else seed), at, **changed)
        facts = facts.astype({spec.name: DTYPES[spec.type] for spec in specs})
        facts = facts[["user_id", *(spec.name for spec in specs)]].assign(as_of=at)
        facts.to_parquet(data / "facts.parquet")
        pd.DataFrame().to_parquet(data / "decisions.parquet")
        (data / "dataset.json").write_text(json.dumps({"features": Schema(specs).to_json()}))
        return build_snapshot(data, tmp_path / "snapshots")

    return take


def compared(before, after, earlier=(), hours=1):
    return snapshot_drift(before, after, earlier, now=after.as_of + hours * 3600)


def test_columns_are_encoded_as_everywhere_else(taken):
    snapshot = taken(0)
    frame = snapshot.frame()
    for spec in SPECS:
        if spec.type is not FeatureType.TIME:
            [found] = column(spec, snapshot)
            np.testing.assert_array_equal(found.astype(np.float32), encode_column(spec, frame[spec.name]))
    [ages] = column(SPECS[5], snapshot)
    assert ages.min() >= 0
    assert ages.mean() == pytest.approx(30, rel=0.1)


def test_the_same_people_on_another_day_did_not_drift(taken):
    *earlier, before, after = (taken(day) for day in range(6))
    report = compared(before, after, earlier)
    assert report.ok
    assert {one.name for one in report.drifts} == {spec.name for spec in SPECS}
    assert {one.earlier for one in report.drifts} == {4}
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("minutes", lambda random, n: random.gamma(2, 65, n)),
        ("sessions", lambda random, n: random.poisson(3.6, n)),
        ("student", lambda random, n: random.random(n) < 0.4),
        ("tier", lambda random, n: random.choice(["free", "basic", "premium"], n, p=[0.7, 0.2, 0.1])),
        ("addons", lambda random, n: pd.Series(SETS[random.choice(5, n, p=[0.3, 0.2, 0.15, 0.3, 0.05])])),
        ("renews", lambda random, n: NOW + pd.Timedelta(days=5) - pd.to_timedelta(random.exponential(60, n), unit="D")),
        ("never", lambda random, n: np.where(random.random(n) < 0.1, 1.0, np.nan)),
    ],
)
def test_a_planted_change_names_that_feature_alone(taken, name, of):
    *earlier, before = (taken(day) for day in range(5))
    report = compared(before, taken(5, **{name: of}), earlier)
    assert report.drifted == (name,)
    assert report.drifts[0].name == name


def test_unseen_categories_are_measured_and_the_shift_has_its_error(taken):
    before, after = taken(0), taken(1, tier=lambda random, n: random.choice(["free", "premium"], n, p=[0.7, 0.3]))
    drifts = {one.name: one for one in compared(before, after).drifts}
    assert drifts["tier"].unseen == pytest.approx(0.3, abs=0.05)
    assert drifts["tier"].means is None
    assert drifts["student"].means[0] == pytest.approx(0.22, abs=0.05)
    assert abs(drifts["minutes"].shift) < 3 * drifts["minutes"].shift_error
    assert drifts["minutes"].shift_error == pytest.approx(50 * 2**0.5 * (2 / 1350) ** 0.5, rel=0.1)


def test_a_snapshot_that_is_old_is_stale_for_what_has_to_be_fresh(taken):
    before, after = taken(0), taken(1)
    assert compared(before, after, hours=35).ok
    report = compared(before, after, hours=37)
    assert (report.ok, report.stale, report.drifted) == (False, ("sessions",), ())


def test_features_that_only_one_has_are_named_and_the_others_compared(taken):
    kept = SPECS[1:]
    report = compared(taken(0), taken(1, specs=kept))
    assert report.notes[0] == "Only in the snapshot before: minutes."
    assert {one.name for one in report.drifts} == {spec.name for spec in kept}


def test_a_feature_of_another_type_is_named(taken):
    other = (*SPECS[1:], FeatureSpec("minutes", FeatureType.INT))
    after = taken(1, specs=other, minutes=lambda random, n: random.integers(0, 9, n).astype(float))
    report = compared(taken(0), after)
    assert "minutes was float and is int now: not compared." in report.notes
    assert "minutes" not in {one.name for one in report.drifts}


def test_a_new_value_in_the_declaration_is_no_other_feature(taken):
    longer = tuple(FeatureSpec("tier", s.type, ("duo", *s.values)) if s.name == "tier" else s for s in SPECS)
    report = compared(taken(0), taken(1, specs=longer))
    assert report.ok
    assert {one.name: one.labels for one in report.drifts}["tier"] == ("free", "basic", "others", "missing")


def test_the_current_snapshot_is_held_against_the_one_before_it(taken, tmp_path):
    taken(0)
    with pytest.raises(UserError, match=r"no snapshot before 2026.*segue features build"):
        pair(tmp_path / "snapshots", None, None)
    days = [taken(day) for day in (2, 1, 4, 3)]  # the last is current
    before, after, earlier = pair(tmp_path / "snapshots", None, None)
    assert (before.id, after.id) == (days[0].id, days[3].id)
    assert [one.as_of for one in earlier] == [NOW.timestamp() + day * DAY for day in (0, 1)]


def test_an_old_snapshot_that_is_broken_is_no_obstacle(taken, tmp_path):
    broken, kept, _ = (taken(day) for day in range(3))
    (broken.path / "part-00000.parquet").unlink()
    before, _, earlier = pair(tmp_path / "snapshots", None, None)
    assert (before.id, earlier) == (kept.id, [])


def test_snapshots_at_another_distance_than_those_before_them_are_told_of(taken):
    earlier, before = [taken(day) for day in range(3)], taken(3)
    assert not compared(before, taken(4), earlier).notes
    [note] = compared(before, taken(10), earlier).notes
    assert note.startswith("These two are 7d apart, those before them 1d")


def test_a_snapshot_against_itself_or_with_nothing_in_common_is_refused(taken):
    one, other = taken(0, specs=SPECS[:1]), taken(1, specs=SPECS[1:2])
    with pytest.raises(UserError, match="itself"):
        compared(one, one)
    with pytest.raises(UserError, match="no feature in common"):
        compared(one, other)
