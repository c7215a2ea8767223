"""Broken events and users are refused with their place, or left out and counted; the current snapshot stays."""

import json
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listeners import (
    DAY,
    END,
    EVENTS,
    USERS,
    event,
    table_of,
    write_dataset,
    write_day,
    write_days,
    write_one_file,
    write_users,
)

from decisioning.errors import UserError
from features.definitions import SCHEMA
from features.schema import Schema
from features.snapshots import build_snapshot, current, read_snapshot

SMALL = Schema(tuple(spec for spec in SCHEMA.specs if spec.name in ("tier", "minutes_28d", "sessions_28d")))
GOOD = [event("u1", END - 2 * DAY + timedelta(minutes=number), "session", "phone", 1.0, 12) for number in range(200)]


@pytest.fixture
def home(tmp_path):
    write_one_file(tmp_path / "data", GOOD)
    return tmp_path


def build(home, **options):
    return build_snapshot(home / "data", home / "snapshots", schema=SMALL, **options)


def sessions(snapshot) -> int:
    return snapshot.frame().set_index("user_id")["sessions_28d"]["u1"]


def refused(home) -> str:
    """What a build says after one that went well; that one stays the current one, and nothing half-done is left."""
    kept = current(home / "snapshots").id
    with pytest.raises(UserError) as error:
        build(home)
    assert current(home / "snapshots").id == kept
    assert {item.name for item in (home / "snapshots").iterdir()} == {kept, "current"}
    return str(error.value)


def write(home, table: pa.Table, file: str = "events.parquet") -> None:
    pq.write_table(table, home / "data" / file)


# --- A few rows that can't be used ---

BAD = [
    ((None, END - DAY, "session"), "without_user"),
    (("u1", None, "session"), "without_time"),
    (("u1", END - DAY, None), "without_type"),
    (("u1", END - 20_000 * DAY, "session"), "before_2000"),
    (("u1", END + DAY, "session"), "after_the_end"),
    (("u1", END - DAY, "session", None, float("nan")), "impossible_amount"),
    (("u1", END - DAY, "session", None, 1e300), "impossible_amount"),
    (("u1", END - DAY, "session", None, float("inf")), "impossible_amount"),
    (("u1", END - DAY, "session", None, -5.0), "impossible_amount"),
    (("u1", END - DAY, "session", None, 5.0, 24), "impossible_hour"),
    (("u1", END - DAY, "session", None, 5.0, -1), "impossible_hour"),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_row_that_can_not_be_used_is_left_out_and_counted(home, row, reason):
    write(home, table_of([*GOOD, event(*row)]))
    snapshot = build(home)
    assert snapshot.manifest["left_out"] == {reason: 1}
    assert sessions(snapshot) == 200


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_more_than_one_in_a_hundred_of_them_is_refused_with_the_first_row(home, row, reason):
    build(home)
    write(home, table_of([*GOOD, *[event(*row)] * 5]))
    said = refused(home)
    assert "events.parquet: 5 of 205 events can't be used: 5 with" in said
    assert "The first of them is row 201" in said
    assert ("the end of this file: 2026-11-22 00:00 UTC" in said) == (reason == "after_the_end")


def test_an_event_of_the_next_day_in_a_partition_is_of_the_future(tmp_path):
    write_days(tmp_path / "data", GOOD)
    day = (END - 2 * DAY).date()
    write_day(tmp_path / "data", day, [*GOOD, event("u1", END - DAY + timedelta(hours=1), "session", "phone")])
    snapshot = build(tmp_path)
    assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({"after_the_end": 1}, 200)


def test_what_happens_after_the_moment_is_no_fault_but_is_not_seen(home):
    snapshot = build(home, as_of=END - 2 * DAY + timedelta(minutes=100))
    assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({}, 100)


def test_a_moment_after_the_end_of_the_events_is_refused(home):
    with pytest.raises(UserError, match="end at 2026-11-22 00:00 UTC: what is true at 2026-11-23 00:00"):
        build(home, as_of=END + DAY)


# --- Duplicates and strangers ---


def test_rows_that_are_equal_in_every_column_are_one_event(home):
    write(home, table_of([*GOOD, *GOOD[:30]]))
    snapshot = build(home)
    assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({"repeated": 30}, 200)


def test_repeated_rows_are_found_however_many_hashes_are_compared_at_once(home, monkeypatch):
    monkeypatch.setattr("features.loading.HASHES_AT_ONCE", 150)  # in two parts: some of the six are in either
    for again in GOOD[:6]:
        write(home, table_of([*GOOD, again]))
        snapshot = build(home)
        assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({"repeated": 1}, 200)


def with_ids(rows, ids) -> pa.Table:
    return table_of(rows).append_column("event_id", pa.array(ids, pa.string()))


def test_with_ids_two_events_that_look_alike_are_two_and_a_repeated_one_is_one(home):
    ids = [f"e{number}" for number in range(200)]
    write(home, with_ids([*GOOD, GOOD[0], GOOD[1]], [*ids, "another", "e1"]))
    snapshot = build(home)
    assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({"repeated": 1}, 201)


def test_two_different_events_of_one_id_are_refused(home):
    build(home)
    write(home, with_ids(GOOD, ["e7", *(f"e{number}" for number in range(199))]))
    assert "2 different events have the event_id e7 (at 2026-11-20 00:00:00" in refused(home)


def test_ids_in_some_files_only_are_refused(tmp_path):
    write_days(tmp_path / "data", GOOD)
    file = write_day(tmp_path / "data", (END - 3 * DAY).date(), [])
    pq.write_table(with_ids([], []), file)
    with pytest.raises(UserError, match=r"2026-11-19.*has the column event_id, .*2026-11-2.*has not"):
        build(tmp_path)


def test_events_of_unknown_users_are_ignored_and_counted(home):
    write(home, table_of([*GOOD, *[event("nobody", END - DAY, "session", "phone", float(n)) for n in range(50)]]))
    snapshot = build(home)
    assert (snapshot.manifest["left_out"], sessions(snapshot)) == ({"of_unknown_users": 50}, 200)


def test_events_of_nobody_who_is_known_are_refused(home):
    build(home)
    write(home, table_of([event(f"id-{row[0]}", *row[1:]) for row in GOOD]))
    assert "None of the 200 events" in refused(home)


# --- Broken tables ---


def changed(name: str, values: pa.Array) -> pa.Table:
    table = table_of(GOOD)
    return table.set_column(table.schema.get_field_index(name), name, values)


NAIVE = pa.array([row[1].replace(tzinfo=None) for row in GOOD], pa.timestamp("us"))
OFFSETS = pa.array([f"2026-11-20T10:00:00{'+02:00' if number % 2 else 'Z'}" for number in range(200)])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("at", NAIVE, "at has no time zone (row 1: 2026-11-20 00:00:00): write it in UTC"),
        ("at", OFFSETS, "at is string where a moment with its time zone is needed (row 1: 2026-11-20T10:00:00Z, in "),
        ("at", pa.array(range(200)), "at is int64 where a moment"),
        ("amount", pa.array([None, *["12,5"] * 199]), "amount is string where a number is needed (row 2: 12,5)"),
        ("user_id", pa.array(range(200)), "user_id is int64 where text is needed (row 1: 0)"),
        ("hour", pa.array([1.5] * 200), "hour is double where a whole number is needed (row 1: 1.5)"),
        ("item", pa.array([True] * 200), "item is bool where text is needed"),
    ],
)
def test_a_column_of_another_type_is_refused_with_its_first_value(home, name, values, said):
    build(home)
    write(home, changed(name, values))
    assert f"events.parquet: {said}" in refused(home)


def test_texts_of_several_time_zones_are_told_apart(home):
    build(home)
    write(home, changed("at", OFFSETS))
    assert "in the time zones +02:00, Z): write timestamps in UTC" in refused(home)


def test_one_partition_of_another_type_is_refused_by_name(tmp_path):
    write_days(tmp_path / "data", GOOD)
    build(tmp_path)
    file = write_day(tmp_path / "data", END.date(), GOOD)
    pq.write_table(changed("at", NAIVE), file)
    assert f"{file}: at has no time zone" in refused(tmp_path)


def test_a_missing_column_is_refused_with_the_nearest_name(home):
    build(home)
    write(home, table_of(GOOD).rename_columns(["userid", *EVENTS.names[1:]]))
    assert 'events.parquet has no column user_id. Did you mean "userid"?' in refused(home)


def test_a_torn_file_is_refused(home):
    build(home)
    whole = (home / "data" / "events.parquet").read_bytes()
    (home / "data" / "events.parquet").write_bytes(whole[: len(whole) // 2])
    assert "events.parquet can't be read as Parquet" in refused(home)


@pytest.mark.parametrize("name", ["events.parquet", "users.parquet"])
def test_a_file_that_is_damaged_within_is_refused(home, name):
    """Its footer is whole, so that only who reads the rows can tell."""
    build(home)
    file = home / "data" / name
    table = pq.read_table(file)
    text = [f"{number:09d}" for number in range(5_000)]
    pq.write_table(table.take([0] * 5_000).set_column(0, "user_id", pa.array(text)), file)
    whole = bytearray(file.read_bytes())
    for at in range(1_000, 4_000):
        whole[at] ^= 0x5A
    file.write_bytes(bytes(whole))
    said = refused(home)
    assert "DuckDB can't go on" in said
    assert "damaged" in said


@pytest.mark.parametrize(("unit", "zone"), [("ns", "UTC"), ("ms", "UTC"), ("us", "Europe/Stockholm"), ("us", "+05:30")])
def test_moments_of_any_unit_and_zone_are_the_same_moments(home, unit, zone):
    expected = build(home).frame()
    at = table_of(GOOD)["at"].cast(pa.timestamp(unit, zone))
    write(home, changed("at", at))
    assert build(home).frame().equals(expected)


def test_a_fraction_of_a_microsecond_is_cut_so_that_the_past_stays_the_past(home):
    nanoseconds = int(END.timestamp()) * 10**9 - 1
    at = pa.array([nanoseconds] * 200).cast(pa.timestamp("ns", "UTC"))
    table = changed("at", at)
    write(home, table.set_column(4, "amount", pa.array([float(number) for number in range(200)])))
    assert sessions(build(home)) == 200


def test_texts_may_be_dictionaries_and_columns_without_any_value_have_no_type(home):
    table = changed("item", pa.nulls(200))
    for name in ("user_id", "type"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    write(home, table)
    assert sessions(build(home)) == 200


def users_of(*rows) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(USERS.names, row, strict=True)) for row in rows], USERS)


BORN = END - 9_000 * DAY


def test_a_user_who_stands_twice_is_refused_with_both_rows(home):
    build(home)
    rows = [("u1", END - 99 * DAY, BORN, "SE"), ("u2", END, BORN, "SE"), ("u1", END - 98 * DAY, BORN, "GB")]
    write(home, users_of(*rows), "users.parquet")
    assert "users.parquet: user u1 stands in rows 1 and 3" in refused(home)


def test_a_user_without_an_id_is_refused_and_one_without_a_sign_up_is_counted(home):
    rows = [("u1", END - 99 * DAY, BORN, "SE"), ("u2", None, BORN, "SE")]
    write(home, users_of(*rows), "users.parquet")
    snapshot = build(home)
    assert snapshot.manifest["left_out"] == {"users_without_sign_up": 1}
    assert snapshot.frame()["user_id"].tolist() == ["u1"]
    write(home, users_of(*rows, (None, END, BORN, "SE")), "users.parquet")
    assert "users.parquet, row 3: a user without user_id" in refused(home)


# --- Folders ---


@pytest.mark.parametrize("gone", ["events.parquet", "users.parquet"])
def test_events_and_users_belong_together_and_old_facts_do_not_stand_in(home, gone):
    build(home)
    facts = pa.table({"user_id": ["u1"], "as_of": pa.array([END - DAY], pa.timestamp("us", "UTC")), "tier": ["free"]})
    write(home, facts, "facts.parquet")
    (home / "data" / gone).unlink()
    assert {"events.parquet": "no events in", "users.parquet": "no users.parquet in"}[gone] in refused(home)


def test_events_that_the_dataset_tells_of_and_that_are_gone_are_refused(home):
    build(home)
    told = json.loads((home / "data" / "dataset.json").read_text())
    (home / "data" / "dataset.json").write_text(json.dumps({**told, "rows": {"events": 200, "users": 3}}))
    for name in ("events", "users"):
        (home / "data" / f"{name}.parquet").unlink()
    assert "There are no events in" in refused(home)


@pytest.mark.parametrize("name", ["a?b", "a*b", "a[1]b", "it's", "a b"])
def test_a_folder_may_be_called_what_is_a_pattern_to_others(tmp_path, name):
    write_days(tmp_path / "a1b" / "data", [*GOOD, event("u1", END - 3 * DAY, "session", "phone", 1.0, 12)])
    write_days(tmp_path / name / "data", GOOD)
    assert sessions(build(tmp_path / name)) == 200


def test_partitions_and_one_file_give_the_same(home, tmp_path):
    days = tmp_path / "days"
    write_days(days / "data", GOOD)
    assert build(days).frame().equals(build(home).frame())


def test_both_a_file_and_partitions_are_refused(home):
    write_day(home / "data", (END - DAY).date(), [])
    with pytest.raises(UserError, match=r"both events\.parquet and events/"):
        build(home)


@pytest.mark.parametrize("name", ["day=2026-11-31", "2026-11-20", "day="])
def test_a_folder_that_is_no_day_is_refused(tmp_path, name):
    write_days(tmp_path / "data", GOOD)
    (tmp_path / "data" / "events" / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is no daily partition"):
        build(tmp_path)


def test_no_partition_at_all_is_refused(tmp_path):
    write_dataset(tmp_path / "data")
    write_users(tmp_path / "data")
    (tmp_path / "data" / "events").mkdir()
    with pytest.raises(UserError, match="holds no events"):
        build(tmp_path)


def test_a_snapshot_whose_parts_are_of_another_schema_is_refused(home):
    snapshot = build(home)
    part = snapshot.path / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["tier"]), part)
    with pytest.raises(UserError, match="of another schema than its manifest: it lacks the column tier"):
        read_snapshot(snapshot.path)


def test_a_manifest_whose_schema_was_edited_is_refused(home):
    file = build(home).path / "manifest.json"
    file.write_text(file.read_text().replace('"premium"', '"family"'))
    with pytest.raises(UserError, match="no readable snapshot"):
        read_snapshot(file.parent)
