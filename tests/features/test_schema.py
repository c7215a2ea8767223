import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.native import missing, native
from features import unpacking
from features.schema import FLOAT32_MAX, MINUTES_FROM, Schema, decode, encode

SPECS = (
    FeatureSpec("tier", FeatureType.ENUM, ("free", "basic", "premium")),
    FeatureSpec("addons", FeatureType.SET, ("audiobooks", "hifi"), default=frozenset({"hifi"})),
    FeatureSpec("student", FeatureType.BOOL, blocks_if_missing=True),
    FeatureSpec("sessions", FeatureType.INT, default=0, max_age=129_600.0, unit="sessions"),
    FeatureSpec("minutes", FeatureType.FLOAT),
    FeatureSpec("seen_at", FeatureType.TIME),
    FeatureSpec("country", FeatureType.ENUM, ("SE", "NO"), from_context=True),
)
SCHEMA = Schema(SPECS)

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "tier": st.none() | st.sampled_from(("free", "basic", "premium")),
        "addons": st.none() | st.frozensets(st.sampled_from(("audiobooks", "hifi"))),
        "student": st.none() | st.booleans(),
        "sessions": st.none() | st.integers(-(2**24), 2**24),
        "minutes": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "seen_at": st.none() | st.integers(0, 2**24).map(lambda minutes: MINUTES_FROM + 60.0 * minutes),
    },
)


@given(VALUES)
def test_what_is_packed_comes_back_and_missing_stays_missing(values):
    assert SCHEMA.unpack(SCHEMA.pack(values)) == {name: value for name, value in values.items() if value is not None}


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_comes_back_at_single_precision_and_nan_never_appears(value):
    back = SCHEMA.unpack(SCHEMA.pack({"minutes": value}))
    if math.isfinite(value) and abs(value) <= FLOAT32_MAX:
        assert back == {"minutes": float(np.float32(value))}
    else:
        assert back == {}


@given(st.binary(min_size=24, max_size=24))
def test_corrupt_bytes_never_raise_and_never_give_nan(packed):
    for value in SCHEMA.unpack(packed).values():
        assert value is not None
        assert value == value


UNPACKERS = [
    pytest.param(SCHEMA.unpack, id="native"),
    pytest.param(unpacking.by_python(SCHEMA.specs, decode, MINUTES_FROM), id="by Python"),
]
NUMBERS = st.lists(
    st.floats(width=32) | st.sampled_from((math.nan, math.inf, -math.inf, -0.0, 0.5, 1.0, 2.0, 3.0, -1.0, 2.0**24)),
    min_size=6,
    max_size=6,
)


@pytest.mark.parametrize("unpack", UNPACKERS)
@given(numbers=NUMBERS)
def test_a_vector_is_unpacked_as_each_of_its_numbers_is_decoded(unpack, numbers):
    """Whatever the numbers are, to the type and the last bit: the unpacking of a whole vector is a short cut."""
    packed = np.array(numbers, "<f4").tobytes()
    each = {spec.name: decode(spec, number) for spec, number in zip(SCHEMA.specs, numbers, strict=True)}
    expected = {name: value for name, value in each.items() if value is not None}
    for _ in range(2):  # what a number stands for may be known from the first time
        found = unpack(b"tag!" + packed, 4)
        assert (list(found.items()), [*map(repr, found.values())]) == (
            list(expected.items()),
            [*map(repr, expected.values())],
        )


def test_a_time_is_kept_to_the_whole_minute_before_it():
    spec = FeatureSpec("seen_at", FeatureType.TIME)
    assert decode(spec, encode(spec, MINUTES_FROM + 119.9)) == MINUTES_FROM + 60.0


def test_an_undeclared_enum_value_is_missing_and_undeclared_members_are_left_out():
    back = SCHEMA.unpack(SCHEMA.pack({"tier": "gold", "addons": frozenset({"hifi", "video"})}))
    assert back == {"addons": frozenset({"hifi"})}


def test_a_value_of_another_type_is_refused_by_name():
    with pytest.raises(ValueError, match="sessions is declared int"):
        SCHEMA.pack({"sessions": "many"})


def test_the_order_of_declaration_changes_nothing_and_context_features_drop_out():
    assert Schema(SPECS[::-1]) == SCHEMA
    assert SCHEMA.names == ("addons", "minutes", "seen_at", "sessions", "student", "tier")
    assert Schema(SPECS[::-1]).hash == SCHEMA.hash


def test_the_hash_follows_the_layout_and_not_the_defaults():
    other_values = Schema((FeatureSpec("tier", FeatureType.ENUM, ("basic", "free", "premium")), *SPECS[1:]))
    other_default = Schema((*SPECS[:3], FeatureSpec("sessions", FeatureType.INT, default=7), *SPECS[4:]))
    assert len(SCHEMA.hash) == 16
    assert other_values.hash != SCHEMA.hash
    assert other_default.hash == SCHEMA.hash


def test_a_schema_survives_json():
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


def test_a_schema_whose_hash_was_tampered_with_is_refused():
    with pytest.raises(ValueError, match="says it is"):
        Schema.from_json(SCHEMA.to_json() | {"hash": "0" * 16})


@pytest.mark.parametrize("unpack", UNPACKERS)
def test_bytes_of_another_schema_are_refused(unpack):
    for packed in ((b"\0" * 20,), (b"\0" * 24, 1), (b"\0" * 3, 4)):
        with pytest.raises(ValueError, match="24 expected"):
            unpack(*packed)


@pytest.mark.skipif(bool(missing("features._vectors", unpacking.VERSION)), reason="the extension is not built")
@pytest.mark.parametrize(
    "fields",
    [
        [],
        ((),),
        (("a", 6, ()),),
        (("a", -1, ()),),
        (("a", 4, []),),
        ((1, 0, ()),),
        (("a", 5, tuple("x" * 25)),),
        (("a", 0, ()), ("a", 0, ())),
    ],
)
def test_the_extension_believes_nothing(fields):
    with pytest.raises((TypeError, ValueError)):
        native("features._vectors", unpacking.VERSION).Unpacker(fields, 0.0)
    one = native("features._vectors", unpacking.VERSION).Unpacker((("a", 4, ("x",)),), 0.0)
    wrong = ((), ("text",), (b"1234", "0"), (b"1234", -1), (b"1234", -(2**63)), (b"1234", 2**80), (b"1234", 0, 0))
    for packed in wrong:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            one.unpack(*packed)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ((SPECS[0], SPECS[0]), "declared twice"),
        ((FeatureSpec("zone", FeatureType.TEXT),), "is text"),
        ((FeatureSpec("many", FeatureType.SET, tuple(f"v{i}" for i in range(25))),), "has 25 values"),
    ],
)
def test_a_schema_that_no_vector_can_hold_is_refused(specs, message):
    with pytest.raises(UserError, match=message):
        Schema(specs)
