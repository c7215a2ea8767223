"""Contexts that are sent: each value of the type that the catalog declares, or refused."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from features.context import MAX_INT, MAX_MEMBERS, MAX_TEXT, ContextError, ContextReader

SPECS = [
    FeatureSpec("device", FeatureType.ENUM, values=("phone", "tv"), from_context=True),
    FeatureSpec("genres", FeatureType.SET, values=("jazz", "folk"), from_context=True),
    FeatureSpec("is_roaming", FeatureType.BOOL, from_context=True),
    FeatureSpec("queue", FeatureType.INT, from_context=True),
    FeatureSpec("battery", FeatureType.FLOAT, from_context=True),
    FeatureSpec("started", FeatureType.TIME, from_context=True),
    FeatureSpec("locale", FeatureType.TEXT, from_context=True),
    FeatureSpec("sessions", FeatureType.INT),
]
READER = ContextReader(Catalog("c", features={one.name: one for one in SPECS}))


def expected(kind: FeatureType, found: object) -> object:
    """What the types mean, case by case; None for a value that is of another one."""
    match kind, found:
        case FeatureType.BOOL, bool():
            return found
        case (_, bool()):
            return None
        case FeatureType.INT, int() if abs(found) <= MAX_INT:
            return found
        case (FeatureType.FLOAT | FeatureType.TIME, float()):
            return found
        case (FeatureType.FLOAT | FeatureType.TIME, int()) if abs(found) <= MAX_INT:
            return float(found)
        case FeatureType.TIME, str():
            try:
                moment = msgspec.convert(found, datetime)
            except msgspec.ValidationError:
                return None
            return moment.timestamp() if moment.tzinfo else None
        case (FeatureType.ENUM | FeatureType.TEXT, str()) if len(found) <= MAX_TEXT:
            return found
        case FeatureType.SET, list() if len(found) <= MAX_MEMBERS and all(isinstance(one, str) for one in found):
            return frozenset(found)
    return None


WORDS = st.sampled_from(["phone", "tv", "jazz", "folk", "fridge", "", "x" * 256, "x" * 257])
MOMENTS = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+05:30", "2026-01-01T00:00:00", "yesterday"])
NUMBERS = st.sampled_from([0, -1, 2**53, 2**53 + 1, -(2**53) - 1, 0.5, -0.0, 1e308]) | st.integers() | st.floats()
LISTS = st.lists(WORDS | NUMBERS, max_size=3) | st.sampled_from([["jazz"] * 256, ["jazz"] * 257])
VALUES = st.none() | st.booleans() | WORDS | MOMENTS | NUMBERS.filter(lambda one: one == one) | LISTS | st.just({})


@given(spec=st.sampled_from(SPECS[:-1]), found=VALUES)
def test_a_value_is_taken_as_its_type_or_refused(spec, found):
    wanted = expected(spec.type, found)
    if found is not None and wanted is None:
        with pytest.raises(ContextError) as refused:
            READER.read({spec.name: found})
        assert refused.value.name == spec.name
        assert refused.value.expected
        return
    values, ignored = READER.read({spec.name: found})
    undeclared = ("context:undeclared_values:1",)
    if found is None:
        assert (values, ignored) == ({}, ())
    elif spec.type is FeatureType.ENUM and found not in spec.values:
        assert (values, ignored) == ({}, undeclared)
    elif spec.type is FeatureType.SET and not wanted <= {*spec.values}:
        assert (values, ignored) == ({spec.name: wanted & {*spec.values}}, undeclared)
    else:
        assert (values, ignored) == ({spec.name: wanted}, ())
        assert type(values[spec.name]) is type(wanted)


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ({}, ()),
        ({"shoe_size": 44, "hat": None}, ("context:unknown_names:2",)),
        ({"sessions": 5}, ("context:unknown_names:1",)),
        ({"device": "fridge", "x": 1}, ("context:unknown_names:1", "context:undeclared_values:1")),
        ({"device": "fridge", "genres": ["polka", "ska"]}, ("context:undeclared_values:2",)),
    ],
)
def test_what_is_left_out_is_counted(sent: Mapping, counted):
    assert READER.read(sent)[1] == counted
