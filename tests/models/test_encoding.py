import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from models.encoding import Encoding, features_from_json, features_json
from models.frames import encode_facts, facts_row

FREE = {
    FeatureType.BOOL: st.booleans(),
    FeatureType.INT: st.integers(-(2**53), 2**53),
    FeatureType.FLOAT: st.floats(allow_nan=False, allow_infinity=True),
    FeatureType.ENUM: st.sampled_from(["a", "b", "never declared"]),
    FeatureType.SET: st.frozensets(st.sampled_from(["a", "b", "never declared"])),
}
DTYPES = {
    FeatureType.BOOL: "boolean",
    FeatureType.INT: "Int64",
    FeatureType.FLOAT: "float64",
    FeatureType.ENUM: "string",
}


@st.composite
def worlds(draw):
    """Features, with and without defaults, and some rows of their values."""
    specs = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(sorted(FREE)), min_size=1, max_size=5))):
        kind = FeatureType(kind)
        values = ("a", "b") if kind in (FeatureType.ENUM, FeatureType.SET) else ()
        default = draw(st.none() | FREE[kind].filter(lambda v: v not in (math.inf, -math.inf)))
        specs.append(FeatureSpec(f"f{number}", kind, values, default))
    rows = draw(st.lists(st.tuples(*[st.none() | FREE[spec.type] for spec in specs]), min_size=1, max_size=6))
    return specs, rows


def frame(specs, rows):
    columns = {}
    for at, spec in enumerate(specs):
        cells = [row[at] for row in rows]
        if spec.type is FeatureType.SET:
            columns[spec.name] = pd.Series([None if cell is None else sorted(cell) for cell in cells], dtype=object)
        else:
            columns[spec.name] = pd.array(cells, dtype=DTYPES[spec.type])
    return pd.DataFrame(columns)


@given(worlds(), st.sampled_from(["home", "shelf", "elsewhere"]))
@settings(max_examples=150, deadline=None)
def test_frames_and_mappings_encode_alike(world, surface):
    specs, rows = world
    encoding = Encoding(tuple(specs), ("home", "shelf"), ())
    facts = frame(specs, rows)
    one_by_one = [
        encoding.context({spec.name: value for spec, value in zip(specs, row, strict=True)}, surface) for row in rows
    ]
    np.testing.assert_array_equal(
        encode_facts(encoding, facts, [surface] * len(rows)), np.array(one_by_one, np.float32)
    )
    from_frame = [encoding.context(facts_row(encoding, facts, row), surface) for row in range(len(rows))]
    np.testing.assert_array_equal(np.array(one_by_one), np.array(from_frame))


@given(
    st.dictionaries(
        st.sampled_from(["age", "likes", "minutes", "paying", "tier"]),
        st.none() | st.text() | st.integers() | st.floats() | st.booleans() | st.frozensets(st.text()),
    )
)
def test_no_value_whatever_makes_encoding_fail(encoding, values):
    row = encoding.context(values, "home")
    assert len(row) == len(encoding.context_columns)
    assert not any(math.isinf(cell) for cell in row)


def test_the_columns_say_what_they_hold(encoding):
    assert encoding.context_columns == (
        "age", "likes has jazz", "likes has metal", "likes has pop", "minutes", "paying",
        "tier=free", "tier=basic", "tier=premium", "surface=home", "surface=shelf",
    )  # fmt: skip
    assert encoding.offer_columns == (
        "offer=annual", "offer=monthly", "offer=nothing", "offer=vinyl", "group=merch", "group=nothing", "group=plans",
        "attribute.price", "attribute.kind=long", "attribute.kind=short",
    )  # fmt: skip


def test_a_row_reads_as_it_should(encoding):
    row = encoding.context({"age": 40, "likes": frozenset({"pop"}), "paying": False, "tier": "basic"}, "shelf")
    assert row == [40, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1]  # minutes: its default
    nothing_known = encoding.context({}, "home")
    assert [math.isnan(cell) for cell in nothing_known] == [True] * 4 + [False] + [True] * 4 + [False] * 2


def test_an_attribute_that_an_offer_lacks_is_missing(encoding):
    offers = dict(zip((o.name for o in encoding.offers), encoding.offer_matrix, strict=True))
    assert offers["annual"].tolist() == [1, 0, 0, 0, 0, 0, 1, 99, 1, 0]
    assert math.isnan(offers["nothing"][7])
    assert math.isnan(offers["vinyl"][8])


@pytest.mark.parametrize("change", [{"type": FeatureType.FLOAT}, {"default": 3}, {"name": "old"}])
def test_the_hash_changes_with_a_feature(encoding, change):
    first = encoding.features[0]
    other = FeatureSpec(**{"name": first.name, "type": first.type, "default": first.default, **change})
    assert Encoding((other, *encoding.features[1:]), encoding.surfaces, encoding.offers).hash != encoding.hash


def test_features_survive_json(encoding):
    assert features_from_json(features_json(encoding.features)) == encoding.features
