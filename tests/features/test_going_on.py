"""A snapshot that goes on from an earlier day is what a full build gives, and what the definitions give."""

import ast
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from listeners import DAY, END, event, histories, table_of, write_day, write_days, write_one_file, write_users

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features import event_snapshots
from features import portable as p
from features.compute import compute
from features.definitions import FEATURES, SCHEMA
from features.feature import Feature
from features.schema import Schema
from features.snapshots import build_days, build_snapshot, current
from features.tallies import faults, tallies

HISTORY = [
    event("u1", END - 300 * DAY, "tier_change", "premium"),
    event("u1", END - 120 * DAY, "follow", "abba"),
    event("u1", END - 29 * DAY, "session", "phone", 30.0, 12),
    event("u1", END - 3 * DAY, "session", "hifi", 10.0, 23),
    event("u2", END - 2 * DAY, "tier_change", "basic"),
    event("u2", END - DAY, "payment", "failed"),
]


FEW_NAMES = ("tier", "followed_artists", "merch_purchases", "minutes_28d", "minutes_90d", "distinct_artists_28d")
SMALL = Schema(tuple(spec for spec in SCHEMA.specs if spec.name in FEW_NAMES))


def build(folder: Path, as_of=None, schema=SMALL, **options):
    return build_snapshot(folder / "data", folder / "snapshots", as_of=as_of, schema=schema, **options)


@pytest.fixture
def home(tmp_path):
    write_days(tmp_path / "data", HISTORY)
    return tmp_path


def computed(events, moment) -> pd.DataFrame:
    """What the definitions give for the same users, by the join over all events."""
    with tempfile.TemporaryDirectory() as folder:
        write_users(Path(folder))
        users = pq.read_table(Path(folder) / "users.parquet").to_pandas()
    signed_up = users[users["signup_at"] < moment].sort_values("user_id")
    observations = pd.DataFrame({"user_id": signed_up["user_id"].to_numpy(), "as_of": pd.Timestamp(moment)})
    return compute(users, table_of(events), observations).drop(columns="as_of")


def assert_same_values(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other[one.columns.tolist()], check_exact=True)


def check_chain(events, steps) -> None:
    with tempfile.TemporaryDirectory() as folder:
        going_on, in_full = Path(folder) / "a", Path(folder) / "b"
        write_days(going_on / "data", events)
        write_one_file(in_full / "data", events)
        for back in sorted(steps, reverse=True):
            moment = END - timedelta(days=back)
            snapshot = build(going_on, moment, SCHEMA)
            assert_same_values(snapshot.frame(), build(in_full, moment, SCHEMA, full=True).frame())
            assert_same_values(snapshot.frame(), computed(events, moment))
        assert len(steps) == 1 or snapshot.manifest["built"]["how"] == "incremental"


FEW = settings(max_examples=2, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
"""What fails is not made smaller: that would take minutes."""
STEPS = st.sets(st.sampled_from((0, 1, 2, 7, 28, 29, 90.25, 100)), min_size=2, max_size=3)


@given(histories(), STEPS)
@settings(FEW)
def test_going_on_gives_the_same_as_building_in_full_and_as_the_definitions(events, steps):
    check_chain(events, steps)


@pytest.mark.heavy
@given(histories(), STEPS)
@settings(FEW, max_examples=25)
def test_going_on_gives_the_same_for_many_histories(events, steps):
    check_chain(events, steps)


@given(histories(days=40), histories(days=40))
@settings(FEW)
def test_no_event_at_or_after_the_moment_can_change_a_snapshot(past, other):
    """Whether it is built in full or goes on, with the future in the same file or in partitions of its own."""
    moment = END - 20 * DAY
    before = [row for row in past if row[1] < moment]
    future = [row for row in other if row[1] >= moment] + [event("u1", moment, "session", "phone", 9.0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        one, more, days = (Path(folder) / name for name in ("one", "more", "days"))
        write_one_file(one / "data", before)
        write_one_file(more / "data", [*before, *future])
        write_days(days / "data", [*before, *future])
        build(days, moment - 3 * DAY, SCHEMA)
        expected, *others = (build(home, moment, SCHEMA) for home in (one, more, days))
        assert [how(snapshot)[0] for snapshot in others] == ["full", "incremental"]
        for snapshot in others:
            assert_same_values(snapshot.frame(), expected.frame())


WINDOWS = Schema(tuple(spec for spec in SCHEMA.specs if spec.name in ("sessions_7d", "minutes_28d", "minutes_90d")))


@pytest.mark.parametrize("fraction", [timedelta(), timedelta(microseconds=500_000), timedelta(microseconds=999_999)])
def test_going_on_reads_up_to_the_edge_of_every_window_and_no_further(tmp_path, fraction):
    moment = END - DAY + fraction
    edges = [END - DAY - timedelta(days=days) for days in (7, 28, 90)]
    inside = [event("u1", edge, "session", "phone", 1.0, 12) for edge in edges]
    outside = [event("u2", edge - timedelta(microseconds=1), "session", "phone", 1.0, 12) for edge in edges]
    write_days(tmp_path / "data", [*inside, *outside])
    first = build(tmp_path, END - 2 * DAY, WINDOWS)
    snapshot = build(tmp_path, moment, WINDOWS)
    assert how(snapshot) == ("incremental", first.id)
    found = snapshot.frame().set_index("user_id")
    assert found.loc["u1"].tolist() == [2.0, 3.0, 1] == [found.at["u1", name] for name in WINDOWS.names]
    assert [found.at["u2", name] for name in WINDOWS.names] == [1.0, 2.0, 0]


def test_what_happened_at_the_moment_of_the_earlier_one_is_counted_by_the_next(tmp_path):
    ever = Schema(tuple(spec for spec in SCHEMA.specs if spec.name in ("tier", "followed_artists")))
    write_days(tmp_path / "data", [*HISTORY, event("u1", END - DAY, "follow", "robyn")])
    before, after = (build(tmp_path, moment, ever) for moment in (END - DAY, END))
    assert how(after) == ("incremental", before.id)
    for snapshot, followed in ((before, 1), (after, 2)):
        assert snapshot.frame().set_index("user_id")["followed_artists"]["u1"] == followed


# --- Whether it goes on, and from what ---


def how(snapshot) -> tuple[str, str]:
    """How it was built, and from what or why."""
    built = snapshot.manifest["built"]
    return built["how"], built.get("from") or built["because"]


def test_the_next_day_goes_on_from_the_day_before_and_reads_only_the_windows(home):
    first = build(home, END - DAY)
    second = build(home, END)
    assert how(first) == ("full", "there is no earlier snapshot of these features by this code")
    assert how(second) == ("incremental", first.id)
    assert second.manifest["built"]["events_read"] == 4  # those of the last 90 days
    assert second.frame().set_index("user_id")["followed_artists"].to_dict() == {"late": 0, "u1": 1, "u2": 0}


def test_full_reads_everything_again_and_gives_the_same_snapshot(home):
    build(home, END - DAY)
    before = build(home, END)
    again = build(home, END, full=True)
    assert how(again) == ("full", "--full was asked for")
    assert again.id == before.id
    assert_same_values(again.frame(), before.frame())


def test_a_snapshot_that_is_there_is_not_built_again(home):
    path = build(home, END).path / "part-00000.parquet"
    written = path.stat().st_mtime_ns
    build(home, END)
    assert path.stat().st_mtime_ns == written


def test_an_event_that_comes_late_to_a_day_already_built_is_counted(home):
    build(home, END - DAY)
    write_day(home / "data", (END - 3 * DAY).date(), [event("u2", END - 3 * DAY, "tier_change", "premium")], "late")
    snapshot = build(home, END)
    late = "events/day=2026-11-19/late.parquet is new, and tells of the time before 2026-11-21 00:00 UTC"
    assert how(snapshot) == ("full", late)
    write_day(home / "data", (END - 300 * DAY).date(), [event("u1", END - 300 * DAY, "merch_purchase", "tee")])
    assert build(home, END).frame().set_index("user_id")["merch_purchases"]["u1"] == 1


def test_a_day_that_is_gone_is_not_counted_any_more(home):
    build(home, END - DAY)
    (home / "data" / "events" / "day=2026-07-25" / "part.parquet").unlink()
    snapshot = build(home, END)
    assert how(snapshot)[0] == "full"
    assert snapshot.frame().set_index("user_id")["followed_artists"]["u1"] == 0


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: whole[:40] + b"?" + whole[41:]])
def test_what_was_left_to_go_on_from_and_is_damaged_is_not_used(home, damage):
    first = build(home, END - DAY)
    first.carried.write_bytes(damage(first.carried.read_bytes()))
    snapshot = build(home, END)
    assert how(snapshot) == ("full", f"carried.parquet of {first.id} is damaged")
    assert snapshot.frame().set_index("user_id")["followed_artists"]["u1"] == 1


def test_a_file_that_was_only_touched_is_the_same(home):
    first = build(home, END - DAY)
    for file in (home / "data" / "events").rglob("*.parquet"):
        file.touch()
    assert how(build(home, END)) == ("incremental", first.id)


def test_other_features_or_other_code_start_anew(home, monkeypatch):
    build(home, END - DAY)
    fewer = Schema(SMALL.specs[1:])
    assert how(build(home, END, schema=fewer))[0] == "full"
    monkeypatch.setattr("features.event_snapshots.code_version", lambda: "another")
    assert how(build(home, END))[0] == "full"


NO_VALUES = {"contract", "frames", "portability", "schema", "snapshot_files", "unpacking"}
"""Modules that say what may stand in a snapshot and how it lies there, and compute nothing."""


def test_the_version_covers_all_code_that_values_come_from():
    folder = Path(event_snapshots.__file__).parent
    reached, new = set(), {folder / "event_snapshots.py"}
    while new:
        file = new.pop()
        reached.add(file)
        tree = ast.walk(ast.parse(file.read_text()))
        named = [node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module]
        files = {folder.parent / f"{name.replace('.', '/')}.py" for name in named if name.startswith("features.")}
        new |= files - reached
    covered = {file for pattern in event_snapshots.CODE for file in folder.glob(pattern)}
    assert {file.stem for file in reached - covered} <= NO_VALUES
    assert folder / "declared" / "account.py" in reached & covered


def test_one_file_that_grows_can_not_be_gone_on_from_but_one_that_stays_can(tmp_path):
    write_one_file(tmp_path / "data", HISTORY)
    first = build(tmp_path, END - DAY)
    assert how(build(tmp_path, END)) == ("incremental", first.id)
    write_one_file(tmp_path / "data", [*HISTORY, event("u1", END + DAY / 2, "session")], END + DAY)
    assert how(build(tmp_path, END + DAY))[0] == "full"


def test_a_user_who_signs_up_later_brings_the_events_of_before(home):
    write_users(home / "data", {"u1": END - 400 * DAY})
    build(home, END - DAY)
    write_users(home / "data", {"u1": END - 400 * DAY, "u2": END - 60 * DAY})
    snapshot = build(home, END)
    assert how(snapshot)[0] == "incremental"
    assert snapshot.frame().set_index("user_id")["tier"]["u2"] == "basic"


def test_a_range_builds_each_day_from_the_one_before_and_leaves_the_current_one(home):
    kept = build(home, END).id
    days = build_days(home / "data", home / "snapshots", (END - 3 * DAY).date(), (END - DAY).date(), schema=SMALL)
    assert [snapshot.moment for snapshot in days] == [END - 3 * DAY, END - 2 * DAY, END - DAY]
    assert [how(snapshot)[1] for snapshot in days[1:]] == [days[0].id, days[1].id]
    assert current(home / "snapshots").id == kept


def test_one_bad_day_leaves_the_days_before_it(home):
    (home / "data" / "events" / "day=2026-11-20" / "part.parquet").write_bytes(b"torn")
    with pytest.raises(UserError) as refused:
        build_days(home / "data", home / "snapshots", (END - 3 * DAY).date(), END.date(), schema=SMALL)
    assert "The snapshot of 2026-11-21 can't be built: " in str(refused.value)
    assert "day=2026-11-20" in str(refused.value)
    assert "The 2 before it are built." in str(refused.value)
    assert len(list((home / "snapshots").glob("*/manifest.json"))) == 2
    assert not list((home / "snapshots").glob(".*"))


def test_days_without_a_partition_are_told(home):
    assert "2026-11-19" not in build(home, END - 2 * DAY).manifest["missing_days"]
    write_days(home / "data", [event("u1", END - 5 * DAY, "session"), event("u1", END - 3 * DAY, "session")])
    shutil.rmtree(home / "data" / "events")
    for back in (5, 3, 1):
        write_day(home / "data", (END - back * DAY).date(), [event("u1", END - back * DAY, "session")])
    assert build(home, END).manifest["missing_days"] == ["2026-11-18", "2026-11-20"]


# --- What can be carried ---


def feature(of) -> Feature:
    return Feature(FeatureSpec("f", FeatureType.INT), "tests", "a test", of_events=of)


def test_every_feature_that_is_declared_can_go_on():
    declared = tuple(FEATURES)
    assert list(faults(declared, tallies(declared))) == []


@pytest.mark.parametrize(
    ("of", "fault"),
    [
        (lambda seen: seen.item.nunique(), "takes CountDistinct over all time"),
        (lambda seen: (seen.age // 86_400).sum(), "looks at ages over all time"),
        (lambda seen: seen.hour.max(where=seen.age > 86_400), "looks at ages over all time"),
    ],
)
def test_a_tally_that_does_not_add_up_from_day_to_day_is_told(of, fault):
    assert fault in next(faults((feature(of),), tallies((feature(of),))))


def test_windows_and_types_are_read_off_the_definitions():
    found = {tally.name: (tally.types, tally.window) for tally in tallies((feature(lambda s: p.count(s, "ads", 7)),))}
    assert found == {"t0": (frozenset({"ads"}), 7 * 86_400)}
