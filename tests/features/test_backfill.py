"""New features over decisions of the past are those of that moment, and the tables stay whole whatever goes wrong."""

import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from listeners import DAY, END, event, histories, write_days, write_one_file

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.backfill import backfill
from features.definitions import SCHEMA
from features.schema import Schema
from stores.tables import Tables

OLD = Schema((FeatureSpec("followers", FeatureType.INT),))
NEW = ("minutes_28d", "tier", "owned_addons", "payment_failed", "days_since_last_session")
HISTORY = [
    event("u1", END - 30 * DAY, "tier_change", "premium"),
    event("u1", END - 9 * DAY, "session", "phone", 30.0, 12),
    event("u1", END - 4.5 * DAY, "session", "phone", 12.0, 12),
    event("u1", END - 2 * DAY, "tier_change", "free"),
]
MOMENTS = [END - 5 * DAY, END - 4.25 * DAY, END - 10 * DAY, END - 2 * DAY, END - DAY]


def write_decisions(data: Path, moments=MOMENTS, user="u1") -> None:
    ids = pd.Series([f"d{number}" for number in range(len(moments))], dtype="string")
    facts = {"decision_id": ids, "followers": pd.array([1] * len(ids), dtype="Int64")}
    decisions = {"decision_id": ids, "user_id": user, "at": pd.to_datetime(moments, utc=True).as_unit("ns")}
    text = {"user_id": "string", "surface": "string", "offer": "string"}
    decisions |= {"surface": "home", "offer": "trial", "probability": 0.5}
    outcomes = {"event_id": "string", "decision_id": "string", "type": "string", "value": float}
    pd.DataFrame(facts).sample(frac=1, random_state=1).to_parquet(data / "facts.parquet", index=False)
    pd.DataFrame(decisions).astype(text).to_parquet(data / "decisions.parquet", index=False)
    empty = pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in outcomes.items()})
    empty.assign(at=pd.to_datetime([], utc=True)).to_parquet(data / "outcomes.parquet", index=False)
    told = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**told, "features": OLD.to_json()}))


@pytest.fixture
def data(tmp_path):
    write_one_file(tmp_path, HISTORY)
    write_decisions(tmp_path)
    return tmp_path


def facts_of(data: Path) -> pd.DataFrame:
    return pd.read_parquet(data / "facts.parquet").set_index("decision_id").sort_index()


def test_each_row_tells_what_was_known_at_its_decision(data):
    found = backfill(data, NEW)
    facts = facts_of(data)
    assert facts["minutes_28d"].tolist() == [30.0, 42.0, 0.0, 42.0, 42.0]
    assert facts["tier"].tolist() == ["premium", "premium", "premium", "premium", "free"]  # at the very moment: unseen
    assert facts["followers"].tolist() == [1] * 5
    assert (found.rows, found.known["tier"]) == (5, 5)


def test_daily_tells_what_a_snapshot_of_that_night_told(data):
    backfill(data, ["minutes_28d"], daily=True)
    assert facts_of(data)["minutes_28d"].tolist() == [30.0, 30.0, 0.0, 42.0, 42.0]


def test_the_tables_and_their_schema_have_it_from_then_on(data):
    backfill(data, NEW)
    tables = Tables.read(data)
    assert set(tables.schema.names) == {"followers", *NEW}
    assert tables.schema.specs == tuple(sorted((*OLD.specs, *(s for s in SCHEMA.specs if s.name in NEW)), key=_name))
    facts = tables.facts_of_decisions()
    assert facts["minutes_28d"].tolist() == [30.0, 42.0, 0.0, 42.0, 42.0]
    assert facts["owned_addons"].tolist() == [[]] * 5


def _name(spec: FeatureSpec) -> str:
    return spec.name


@given(histories(days=40), histories(days=40))
@settings(max_examples=2, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
def test_no_event_at_or_after_a_decision_bears_on_its_row(past, other):
    moment = END - 20 * DAY
    before = [row for row in past if row[1] < moment]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, events in (("a", before), ("b", [*before, *(row for row in other if row[1] >= moment)])):
            data = Path(folder) / name
            write_days(data, events)
            write_decisions(data, [moment])
            backfill(data, SCHEMA.names)
            rows.append(facts_of(data))
    pd.testing.assert_frame_equal(*rows)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["minute_28d"], 'Nothing defines the feature minute_28d. Did you mean "minutes_28d"?'),
        (["tier", "nonsense"], "Nothing defines the feature nonsense"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(data, names, message):
    before = (data / "facts.parquet").read_bytes()
    with pytest.raises(UserError) as refused:
        backfill(data, names)
    assert message in str(refused.value)
    assert (data / "facts.parquet").read_bytes() == before


def test_what_is_there_already_is_only_replaced_when_that_is_wanted(data):
    backfill(data, ["tier"])
    with pytest.raises(UserError, match="have tier already: --replace"):
        backfill(data, ["tier", "minutes_28d"])
    assert "minutes_28d" not in facts_of(data)
    assert backfill(data, ["tier"], replace=True).rows == 5


def test_without_events_it_says_so(data):
    (data / "events.parquet").unlink()
    with pytest.raises(UserError, match="no events in"):
        backfill(data, ["tier"])


def test_facts_that_go_on_after_the_events_are_refused(data):
    told = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**told, "until": (END - 3 * DAY).isoformat()}))
    write_decisions(data)
    before = (data / "facts.parquet").read_bytes()
    with pytest.raises(UserError, match="the events only until 2026-11-19"):
        backfill(data, ["tier"])
    assert (data / "facts.parquet").read_bytes() == before
    assert not [file for file in data.iterdir() if file.name.startswith(".")]


def changed(name, change):
    return lambda data: change(pd.read_parquet(data / name)).to_parquet(data / name, index=False)


def torn(name):
    return lambda data: (data / name).write_bytes((data / name).read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (changed("facts.parquet", lambda facts: facts.iloc[:0]), "facts.parquet holds no facts"),
        (changed("facts.parquet", lambda facts: pd.concat([facts, facts])), r"facts.parquet has d\d twice"),
        (changed("decisions.parquet", lambda rows: pd.concat([rows, rows])), "decisions.parquet has d0 twice"),
        (changed("decisions.parquet", lambda rows: rows.assign(at=rows["at"].dt.tz_localize(None))), "time zone"),
        (changed("decisions.parquet", lambda rows: rows.drop(columns="at")), "decisions.parquet can't be read"),
        (torn("decisions.parquet"), "decisions.parquet can't be read"),
        (torn("facts.parquet"), "facts.parquet can't be read"),
        (lambda data: (data / "facts.parquet").unlink(), "There is no .*facts.parquet"),
        (lambda data: (data / "dataset.json").write_text('{"until": "yesterday"}'), "dataset.json is damaged"),
    ],
)
def test_tables_that_are_broken_are_refused_as_they_are(data, spoil, said):
    spoil(data)
    before = {file.name: file.read_bytes() for file in data.iterdir()}
    with pytest.raises(UserError, match=said):
        backfill(data, ["tier"])
    assert {file.name: file.read_bytes() for file in data.iterdir()} == before


def test_facts_of_a_decision_that_is_gone_are_refused(data):
    decisions = pd.read_parquet(data / "decisions.parquet")
    decisions[decisions["decision_id"] != "d3"].to_parquet(data / "decisions.parquet", index=False)
    with pytest.raises(UserError, match="has facts of d3"):
        backfill(data, ["tier"])
