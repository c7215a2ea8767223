"""Vectors packed from Arrow are those that everything else packs, to the last bit."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from features.frames import pack_frame, typed_column
from features.packing import pack_batch
from features.schema import Schema

SCHEMA = Schema(
    (
        FeatureSpec("days", FeatureType.INT),
        FeatureSpec("followed", FeatureType.SET, values=("rock", "jazz", "folk")),
        FeatureSpec("minutes", FeatureType.FLOAT),
        FeatureSpec("on_trial", FeatureType.BOOL),
        FeatureSpec("signed_up", FeatureType.TIME),
        FeatureSpec("tier", FeatureType.ENUM, values=("free", "duo", "family")),
    )
)
MOMENTS = st.datetimes(datetime(1999, 1, 1), datetime(2040, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "days": st.none() | st.integers(-(2**40), 2**40),
            "followed": st.none() | st.lists(st.sampled_from(["rock", "jazz", "folk", "polka"]), max_size=5),
            "minutes": st.none() | st.floats(),
            "on_trial": st.none() | st.booleans(),
            "signed_up": st.none() | MOMENTS,
            "tier": st.none() | st.sampled_from(["free", "duo", "family", "hifi"]),
        }
    ),
    max_size=8,
)
TYPES = {
    "days": pa.int64(),
    "followed": pa.list_(pa.string()),
    "minutes": pa.float64(),
    "on_trial": pa.bool_(),
    "signed_up": pa.timestamp("us", "UTC"),
    "tier": pa.string(),
}


def batch_of(rows: list[dict], types: dict = TYPES) -> pa.RecordBatch:
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in types.items()]
    return pa.RecordBatch.from_arrays(columns, names=list(types))


@given(ROWS, st.integers(0, 3))
def test_a_batch_packs_to_the_bytes_of_its_frame(rows, start):
    batch = batch_of(rows).slice(start)
    raw = batch.to_pandas()
    frame = pd.DataFrame({spec.name: typed_column(spec, raw[spec.name]) for spec in SCHEMA.specs})
    assert pack_batch(SCHEMA, batch).tobytes() == pack_frame(SCHEMA, frame).tobytes()


@given(ROWS)
def test_a_batch_packs_to_the_bytes_of_its_values(rows):
    def value(name, cell):
        match cell:
            case datetime():
                return (cell - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
            case list():
                return frozenset(cell)
        return cell

    packed = pack_batch(SCHEMA, batch_of(rows))
    for row, vector in zip(rows, packed, strict=True):
        assert vector.tobytes() == SCHEMA.pack({name: value(name, cell) for name, cell in row.items()})


@pytest.mark.parametrize(
    "types",
    [
        {"tier": pa.dictionary(pa.int32(), pa.string()), "followed": pa.large_list(pa.large_string())},
        {"tier": pa.large_string(), "days": pa.int16(), "minutes": pa.float32()},
        {"signed_up": pa.timestamp("ns", "UTC"), "days": pa.float64(), "on_trial": pa.int8()},
        {"signed_up": pa.timestamp("s")},
    ],
)
def test_the_same_values_in_other_arrow_types_pack_to_the_same_bytes(types):
    at = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
    whole = {"days": 3, "followed": ["jazz"], "minutes": 0.5, "on_trial": True, "signed_up": at, "tier": "duo"}
    rows = [whole, dict.fromkeys(TYPES), whole | {"followed": []}]
    batch = batch_of(rows)
    names = batch.schema.names
    other = pa.RecordBatch.from_arrays([batch[name].cast((TYPES | types)[name]) for name in names], names=names)
    assert pack_batch(SCHEMA, other).tobytes() == pack_batch(SCHEMA, batch).tobytes()


def test_a_column_of_another_type_is_an_error():
    with pytest.raises(pa.ArrowException):
        pack_batch(SCHEMA, batch_of([{**dict.fromkeys(TYPES), "days": "many"}], TYPES | {"days": pa.string()}))


def test_a_column_that_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        pack_batch(SCHEMA, batch_of([{}], {}))
