import os
import subprocess
import sys

import pandas as pd
import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import Schema
from stores.tables import Tables, check

SCHEMA = Schema((FeatureSpec("recency", FeatureType.INT), FeatureSpec("addons", FeatureType.SET, ("hifi", "books"))))


def moments(*texts: str) -> pd.Series:
    return pd.to_datetime(pd.Series(texts), utc=True, format="ISO8601").astype("datetime64[ns, UTC]")


def text(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype="string")


def good() -> Tables:
    facts = pd.DataFrame({"decision_id": text("d1", "d2", "d3"), "recency": pd.array([1, None, 3], dtype="Int64")})
    facts["addons"] = [["hifi"], None, []]
    decisions = pd.DataFrame(
        {
            "decision_id": text("d1", "d2", "d3"),
            "user_id": text("u1", "u2", "u1"),
            "at": moments("2026-11-01T00:00Z", "2026-11-02T00:00Z", "2026-11-03T00:00Z"),
            "surface": text("home", "home", "home"),
            "offer": text("a", "b", "nothing"),
            "probability": [0.5, 0.25, 1.0],
            "eligible": [["a", "b"], ["a", "b"], ["a", "nothing"]],
        }
    )
    outcomes = pd.DataFrame(
        {
            "event_id": text("e1", "e2"),
            "decision_id": text("d1", "d1"),
            "type": text("click", "convert"),
            "value": [None, 3.5],
            "at": moments("2026-11-01T01:00Z", "2026-11-05T00:00Z"),
        }
    )
    return Tables(facts, decisions, outcomes, {"source": "test", "features": SCHEMA.to_json()})


def changed(table: str, row: int, column: str, value: object) -> Tables:
    tables = good()
    frame = getattr(tables, table)
    frame[column] = [value if i == row else cell for i, cell in enumerate(frame[column])]
    return tables


def by_moment() -> Tables:
    facts = pd.DataFrame(
        {
            "user_id": text("u1", "u2", "u1"),
            "as_of": moments("2026-10-31T00:00Z", "2026-11-01T00:00Z", "2026-11-02T12:00Z"),
            "recency": pd.array([10, 20, 30], dtype="Int64"),
        }
    )
    return Tables(facts, good().decisions, good().outcomes)


def test_good_tables_pass_and_come_back_from_disk_as_they_were(tmp_path):
    good().write(tmp_path / "data", extra={"users": pd.DataFrame({"user_id": text("u1", "u2")})})
    back = Tables.read(tmp_path / "data")
    for name in ("facts", "decisions", "outcomes"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(good(), name))
    assert back.schema == SCHEMA
    assert back.dataset["rows"] == {"facts": 3, "decisions": 3, "outcomes": 2, "users": 2}
    assert (tmp_path / "data" / "users.parquet").is_file()
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "message"),
    [
        ("decisions", 2, "probability", 0.0, r"decisions, row 3 \(decision_id d3\): the probability 0.0 is outside"),
        ("decisions", 1, "probability", 1.01, "row 2 .*outside"),
        ("decisions", 1, "probability", float("nan"), "row 2 .*probability is missing"),
        ("decisions", 1, "decision_id", "d1", "row 2 .*earlier row"),
        ("decisions", 0, "eligible", ["b"], "row 1 .*the logged offer a is not among"),
        ("decisions", 0, "user_id", None, "row 1 .*user_id is missing"),
        ("outcomes", 1, "event_id", "e1", r"outcomes, row 2 \(event_id e1\)"),
        ("outcomes", 1, "decision_id", "d9", "row 2 .*its decision d9 is not in decisions"),
        ("outcomes", 1, "at", pd.Timestamp("2026-10-01", tz="UTC"), "row 2 .*before its decision"),
        ("facts", 1, "decision_id", "d1", "facts, row 2 .*earlier row"),
        ("facts", 1, "decision_id", "d9", "row 2 .*its decision d9 is not in decisions"),
    ],
)
def test_a_broken_row_is_refused_with_its_table_row_and_reason(table, row, column, value, message):
    with pytest.raises(UserError, match=message):
        check(changed(table, row, column, value))


def test_a_missing_column_is_refused_by_the_name_of_the_file():
    tables = good()
    tables.decisions.drop(columns="probability", inplace=True)
    with pytest.raises(UserError, match=r"log\.csv has no column probability"):
        check(tables, {"decisions": "log.csv"})


def test_a_decision_without_facts_is_refused():
    tables = good()
    with pytest.raises(UserError, match=r"decisions, row 3 \(decision_id d3\): this decision has no row in facts"):
        check(Tables(tables.facts.iloc[:2], tables.decisions, tables.outcomes))


@pytest.mark.parametrize("table", ["facts", "decisions"])
def test_an_empty_table_is_refused(table):
    frames = {name: getattr(good(), name) for name in ("facts", "decisions", "outcomes")}
    with pytest.raises(UserError, match=f"{table} is empty"):
        check(Tables(**(frames | {table: frames[table].iloc[:0]})))


def test_no_outcome_at_all_is_allowed():
    tables = good()
    check(Tables(tables.facts, tables.decisions, tables.outcomes.iloc[:0]))


@pytest.mark.parametrize("zone", [None, "Europe/Stockholm"])
def test_times_that_are_not_in_utc_are_refused(zone):
    tables = good()
    tables.decisions["at"] = tables.decisions["at"].dt.tz_convert(zone)
    with pytest.raises(UserError, match="decisions, column at: its time zone is not UTC"):
        check(tables)


def test_facts_from_after_their_decision_are_refused_as_a_leak():
    tables = good()
    tables.facts["as_of"] = moments("2026-10-31T00:00Z", "2026-11-02T00:00:01Z", "2026-11-01T00:00Z")
    with pytest.raises(UserError, match=r"facts, row 2 .*leak"):
        check(tables)


def test_facts_by_moment_give_each_decision_the_latest_row_that_is_not_after_it():
    check(by_moment())
    joined = by_moment().facts_of_decisions()
    assert joined["decision_id"].tolist() == ["d1", "d2", "d3"]
    assert joined["recency"].tolist() == [10, 20, 30]


def test_a_decision_that_only_later_facts_know_is_refused():
    tables = by_moment()
    tables.facts.loc[0, "as_of"] = pd.Timestamp("2026-11-01T00:00:01", tz="UTC")
    with pytest.raises(UserError, match=r"decisions, row 1 .*no row of facts knows its user u1"):
        check(tables)


def test_a_refused_dataset_leaves_the_folder_as_it_was(tmp_path):
    good().write(tmp_path / "data")
    with pytest.raises(UserError):
        changed("decisions", 0, "probability", 2.0).write(tmp_path / "data")
    pd.testing.assert_frame_equal(Tables.read(tmp_path / "data").decisions, good().decisions)
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


def test_reading_where_there_is_no_dataset_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="segue data simulate"):
        Tables.read(tmp_path)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    good().write(tmp_path)
    (tmp_path / "outcomes.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"outcomes.parquet can't be read"):
        Tables.read(tmp_path)


def test_a_dataset_whose_replacement_was_killed_between_its_two_renames_is_found_again(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    good().write(tmp_path / f".data.old.{ended.stdout.strip()}")
    assert len(Tables.read(tmp_path / "data").facts) == len(good().facts)
    (tmp_path / "data").rename(tmp_path / f".data.old.{os.getpid()}")  # of a process that is at it
    with pytest.raises(UserError):
        Tables.read(tmp_path / "data")
