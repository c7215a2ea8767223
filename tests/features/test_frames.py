import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from features.frames import DTYPES, masks_to_lists, pack_frame, typed_column
from features.schema import Schema

SCHEMA = Schema(
    (
        FeatureSpec("tier", FeatureType.ENUM, ("free", "premium")),
        FeatureSpec("addons", FeatureType.SET, ("audiobooks", "hifi")),
        FeatureSpec("student", FeatureType.BOOL),
        FeatureSpec("sessions", FeatureType.INT),
        FeatureSpec("minutes", FeatureType.FLOAT),
        FeatureSpec("seen_at", FeatureType.TIME),
    )
)
ROW = st.fixed_dictionaries(
    {
        "tier": st.none() | st.sampled_from(("free", "premium", "unheard_of")),
        "addons": st.none() | st.frozensets(st.sampled_from(("audiobooks", "hifi", "video"))),
        "student": st.none() | st.booleans(),
        "sessions": st.none() | st.integers(-(2**53), 2**53),
        "minutes": st.none() | st.floats(allow_nan=False),
        "seen_at": st.none() | st.integers(0, 4 * 10**9).map(float),
    }
)


def frame_of(rows: list[dict]) -> pd.DataFrame:
    columns = {}
    for spec in SCHEMA.specs:
        cells = [row[spec.name] for row in rows]
        if spec.type is FeatureType.TIME:
            cells = pd.to_datetime(pd.Series(cells, dtype="Float64"), unit="s", utc=True)
        if spec.type is FeatureType.SET:
            cells = [None if cell is None else sorted(cell) for cell in cells]
        columns[spec.name] = typed_column(spec, pd.Series(cells, dtype=object))
    return pd.DataFrame(columns)


@given(st.lists(ROW, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_packed_frame_equals_packing_row_by_row(rows):
    packed = pack_frame(SCHEMA, frame_of(rows))
    assert packed.dtype == np.dtype("<f4")
    for row, vector in zip(rows, packed, strict=True):
        assert vector.tobytes() == SCHEMA.pack(row)


def test_a_column_that_the_frame_lacks_is_missing():
    packed = pack_frame(SCHEMA, pd.DataFrame({"sessions": pd.array([4], dtype="Int64")}))
    assert SCHEMA.unpack(packed[0].tobytes()) == {"sessions": 4}


def test_masks_become_lists_of_declared_values():
    spec = FeatureSpec("addons", FeatureType.SET, ("audiobooks", "hifi"))
    lists = masks_to_lists(spec, pd.Series([0, 2, 3, None], dtype="Int64"))
    assert list(lists) == [[], ["hifi"], ["audiobooks", "hifi"], None]


def test_every_type_that_a_snapshot_can_hold_has_a_dtype():
    assert set(DTYPES) == set(FeatureType) - {FeatureType.TEXT}
