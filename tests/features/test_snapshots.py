import json
from functools import partial
from math import isinf

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.identity import user_key
from features.contract import Contract
from features.definitions import SCHEMA
from features.schema import Schema
from features.snapshot_files import ARROW, DRAFTS, drafted
from features.snapshots import build_snapshot, current, read_snapshot, snapshot_rows

NOW = pd.Timestamp("2026-11-22", tz="UTC")
DAY = pd.Timedelta(days=1)
FACTS_SCHEMA = Schema(
    (FeatureSpec("recency", FeatureType.INT), FeatureSpec("channel", FeatureType.ENUM, ("web", "tv")))
)
SECRET = bytes(32)


@pytest.fixture
def simulated(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    ids = pd.Series(["u1", "u2", "late"], dtype="string")
    signup = [NOW - 50 * DAY, NOW - 40 * DAY, NOW - DAY / 2]
    users = pd.DataFrame({"user_id": ids, "signup_at": signup, "born_at": NOW - 9_000 * DAY, "market": "SE"})
    events = pd.DataFrame(
        {
            "user_id": pd.Series(["u1", "u1", "u2", "u1"], dtype="string"),
            "at": [NOW - 50 * DAY, NOW - 2 * DAY, NOW - 3 * DAY, NOW],
            "type": ["tier_change", "session", "addon_hifi", "session"],
            "item": ["free", "phone", "on", "phone"],
            "amount": [None, 30.0, None, 10.0],
            "hour": pd.array([None, 12, None, 12], dtype="Int64"),
        }
    )
    users.to_parquet(data / "users.parquet")
    events.to_parquet(data / "events.parquet")
    (data / "dataset.json").write_text(json.dumps({"features": SCHEMA.to_json(), "until": NOW.isoformat()}))
    return tmp_path


@pytest.fixture
def imported(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    ids = pd.Series(["d1", "d2", "d3"], dtype="string")
    facts = {"decision_id": ids, "recency": pd.array([1, 2, None], dtype="Int64"), "channel": ["web", "tv", "web"]}
    pd.DataFrame(facts).astype({"channel": "string"}).to_parquet(data / "facts.parquet")
    decisions = {"decision_id": ids, "user_id": ["u1", "u1", "u2"], "at": [NOW, NOW - DAY, NOW - 2 * DAY]}
    pd.DataFrame(decisions).astype({"user_id": "string"}).to_parquet(data / "decisions.parquet")
    (data / "dataset.json").write_text(json.dumps({"features": FACTS_SCHEMA.to_json()}))
    return tmp_path


def build(folder, **options):
    return build_snapshot(folder / "data", folder / "snapshots", **options)


def test_a_snapshot_of_events_holds_whoever_had_signed_up(simulated):
    frame = build(simulated).frame()
    assert frame["user_id"].tolist() == ["late", "u1", "u2"]
    assert frame["sessions_7d"].tolist() == [0, 1, 0]
    earlier = build(simulated, as_of=NOW.to_pydatetime() - DAY)
    assert earlier.frame()["user_id"].tolist() == ["u1", "u2"]


def test_the_manifest_says_what_it_is_and_where_it_is_from(simulated):
    snapshot = build(simulated)
    assert snapshot.manifest["schema_hash"] == SCHEMA.hash == snapshot.schema.hash
    assert snapshot.as_of == NOW.timestamp()
    assert snapshot.rows == 3
    assert set(snapshot.manifest["sources"]) == {"users", "events"}
    assert len(snapshot.manifest["code_version"]) == 16


def test_building_twice_gives_the_same_snapshot_and_it_is_the_current_one(simulated):
    first, second = build(simulated), build(simulated)
    assert first.id == second.id == current(simulated / "snapshots").id
    names = {item.name for item in (simulated / "snapshots").iterdir()}
    assert names == {first.id, "current"}


def test_a_snapshot_of_imported_facts_holds_each_users_latest_row(imported):
    snapshot = build(imported)
    assert snapshot.frame()["user_id"].tolist() == ["u1", "u2"]
    assert snapshot.frame()["recency"].tolist() == [1, pd.NA]
    assert snapshot.as_of == NOW.timestamp()


def test_only_the_features_that_the_catalog_declares_are_kept(imported):
    snapshot = build(imported, schema=Schema((FACTS_SCHEMA.specs[1],)))
    assert snapshot.frame().columns.tolist() == ["user_id", "recency"]


def test_a_feature_that_the_data_does_not_have_is_refused_by_name(imported):
    with pytest.raises(UserError, match="declares the feature tier"):
        build(imported, schema=Schema((FeatureSpec("tier", FeatureType.BOOL),)))


@pytest.mark.parametrize("folder", ["simulated", "imported"])
def test_rows_for_publishing_are_the_frames_rows_packed(folder, request):
    snapshot = build(request.getfixturevalue(folder))
    rows = dict(snapshot_rows(snapshot, SECRET))
    assert len(rows) == snapshot.rows
    for row in snapshot.frame().to_dict("records"):
        values = {name: frozenset(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
        known = {name: value for name, value in values.items() if value is not pd.NA and value == value}
        assert rows[user_key(SECRET, row["user_id"])] == snapshot.schema.pack(known)


def test_a_value_that_is_not_declared_is_refused_and_the_current_snapshot_stays(imported):
    kept = build(imported).id
    facts = pd.read_parquet(imported / "data" / "facts.parquet")
    facts.loc[0, "channel"] = "radio"
    facts.to_parquet(imported / "data" / "facts.parquet")
    with pytest.raises(UserError, match=r"channel of u1, row 1: radio is wrong \(not one of web, tv\)"):
        build(imported)
    assert current(imported / "snapshots").id == kept


def batch(ids, cells):
    return pa.RecordBatch.from_arrays([pa.array(ids, pa.string()), cells], names=["user_id", "n"])


@pytest.mark.parametrize(
    ("spec", "cells", "message"),
    [
        (FeatureSpec("n", FeatureType.INT, unit="days"), pa.array([-1]), "less than nothing"),
        (FeatureSpec("n", FeatureType.FLOAT), pa.array([float("inf")]), "not a finite number"),
        (FeatureSpec("n", FeatureType.SET, ("a",)), pa.array([["b"]]), "undeclared members"),
        (FeatureSpec("n", FeatureType.INT), pa.array([1.5]), "n"),
    ],
)
def test_a_batch_that_breaks_the_contract_is_refused(spec, cells, message):
    with pytest.raises(UserError, match=message):
        Contract(Schema((spec,))).check(batch(["u1"], cells))


def test_a_user_who_stands_twice_is_refused_in_one_batch_or_in_two():
    schema = Schema((FeatureSpec("n", FeatureType.INT),))
    with pytest.raises(UserError, match="user_id"):
        Contract(schema).check(batch(["u1", "u1"], pa.array([1, 2])))
    contract = Contract(schema)
    contract.check(batch(["u1", "u2"], pa.array([1, 2])))
    with pytest.raises(UserError, match="row 3: u2 stands twice"):
        contract.check(batch(["u2"], pa.array([3])))


def damage(snapshot) -> None:
    part = snapshot.path / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])


@pytest.mark.parametrize("folder", ["simulated", "imported"])
def test_a_damaged_snapshot_is_built_again_as_the_message_says(folder, request):
    home = request.getfixturevalue(folder)
    snapshot = build(home)
    whole = snapshot.frame()
    damage(snapshot)
    with pytest.raises(UserError, match="segue features build"):
        current(home / "snapshots")
    assert build(home).id == snapshot.id
    pd.testing.assert_frame_equal(current(home / "snapshots").frame(), whole)


def test_full_builds_a_snapshot_of_imported_facts_anew(imported):
    part = build(imported).path / "part-00000.parquet"
    before = part.stat().st_ino
    build(imported)
    assert part.stat().st_ino == before
    build(imported, full=True)
    assert part.stat().st_ino != before


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [("recency", ["1", "2"], "recency is string there, and not int64"), ("channel", [1, 2], "channel is int64 there")],
)
def test_a_part_whose_columns_changed_their_type_is_refused(imported, column, values, said):
    snapshot = build(imported)
    part = snapshot.path / "part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), part)
    with pytest.raises(UserError, match=f"of another schema than its manifest: {said}"):
        current(imported / "snapshots")


def test_many_rows_become_several_parts_in_the_order_of_users(simulated, monkeypatch):
    monkeypatch.setattr("features.events_to_features.BATCH", 1)
    monkeypatch.setattr("features.snapshot_files.PART_ROWS", 1)
    snapshot = build(simulated)
    assert len(snapshot.manifest["parts"]) == len(list(snapshot.path.glob("part-*.parquet"))) == 3
    assert [batch["user_id"].tolist() for batch in snapshot.batches()] == [["late"], ["u1"], ["u2"]]
    assert read_snapshot(snapshot.path).frame()["user_id"].tolist() == ["late", "u1", "u2"]


def test_what_a_killed_build_left_is_removed_and_what_a_living_one_makes_is_not(imported):
    with drafted(imported / "snapshots", "other") as living:
        (living / "part").touch()
        left = imported / "snapshots" / f"{DRAFTS}left"
        (left / "new").mkdir(parents=True)
        kept = build(imported).id
        assert not left.exists()
        assert (living / "part").exists()
    assert {item.name for item in (imported / "snapshots").iterdir()} == {"current", "other", kept}


@pytest.mark.parametrize(
    "told",
    ["{}", "[]", "null", "{", '{"features": 3}', '{"features": {"features": [], "hash": "of another"}}']
    + [json.dumps({"features": SCHEMA.to_json(), "until": until}) for until in ("yesterday", 5)],
)
@pytest.mark.parametrize("folder", ["simulated", "imported"])
def test_a_damaged_description_of_the_data_is_refused(folder, told, request):
    home = request.getfixturevalue(folder)
    (home / "data" / "dataset.json").write_text(told)
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        build(home)


@pytest.mark.parametrize("name", ["facts", "decisions"])
def test_imported_tables_that_are_torn_or_gone_are_refused_by_name(imported, name):
    kept = build(imported).id
    file = imported / "data" / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=rf"{name}\.parquet can't be read"):
        build(imported)
    file.unlink()
    with pytest.raises(UserError, match=rf"There is no .*{name}\.parquet"):
        build(imported)
    assert current(imported / "snapshots").id == kept


def test_a_missing_part_is_noticed_when_reading(imported):
    snapshot = build(imported)
    (snapshot.path / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match="no readable snapshot"):
        read_snapshot(snapshot.path)


def test_without_a_snapshot_or_data_the_message_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="segue features build"):
        current(tmp_path / "snapshots")
    with pytest.raises(UserError, match="segue data simulate"):
        build(tmp_path)


VALUES = {
    FeatureType.BOOL: st.none() | st.booleans(),
    FeatureType.INT: st.none() | st.integers(-2, 9),
    FeatureType.FLOAT: st.none() | st.floats(-2, 9) | st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    FeatureType.ENUM: st.none() | st.sampled_from(["a", "b", "c"]),
    FeatureType.SET: st.none() | st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
}


@given(st.sampled_from(sorted(VALUES)), st.sampled_from(["", "days"]), st.data())
@settings(max_examples=50, deadline=None)
def test_the_contract_refuses_just_what_the_declaration_forbids(kind, unit, data):
    cells = data.draw(st.lists(VALUES[kind], max_size=6))
    named = kind in (FeatureType.ENUM, FeatureType.SET)
    spec = FeatureSpec("n", kind, ("a", "b") if named else (), unit="" if named or kind is FeatureType.BOOL else unit)
    column = pa.array(cells, ARROW[kind])
    allowed = {"a", "b"}

    def breaks(cell):
        match kind:
            case FeatureType.ENUM:
                return cell is not None and cell not in allowed
            case FeatureType.SET:
                return cell is not None and not set(cell) <= allowed
            case FeatureType.INT | FeatureType.FLOAT:
                return cell is not None and (isinf(cell) or (unit == "days" and cell < 0))  # NaN is a missing value
        return False

    check = partial(Contract(Schema((spec,))).check, batch([f"u{row}" for row in range(len(cells))], column))
    wrong = [row for row, cell in enumerate(cells, 1) if breaks(cell)]
    if wrong:
        with pytest.raises(UserError, match=rf"n of u\d, row ({'|'.join(map(str, wrong))}): "):
            check()
    else:
        check()
