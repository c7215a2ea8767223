"""What the extension writes is what msgspec writes, byte for byte; what it doesn't know, it leaves to msgspec."""

import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decisioning.domain import Decision, Facts, Known, Request, Rung, Shed, Shown, Source
from decisioning.native import native
from stores.log import written
from stores.log.decision_log import DecisionRecord, encode
from stores.log.written import Field, by_c, whole

pytestmark = pytest.mark.skipif(native("stores.log._json", written.VERSION) is None, reason="it is not built")


class Colour(StrEnum):
    RED = "red"


@dataclass(slots=True)
class Pair:
    left: object
    right: object = None


by_msgspec = msgspec.json.Encoder(order="deterministic").encode
rounded = [Field("left", "left", is_rounded=True), Field("right", "other", absent=b'"none"')]


@pytest.fixture(scope="module")
def write():
    return by_c(whole(Pair), texts=(Colour,))


@pytest.fixture(scope="module")
def write_moment():
    return by_c(whole(Pair), last="at")


any_float = st.floats(allow_nan=True, allow_infinity=True)
by_bits = st.binary(min_size=8, max_size=8).map(lambda bits: struct.unpack("<d", bits)[0])
decimals = st.builds(
    lambda digits, power: float(f"{digits}e{power}"), st.integers(-(10**17), 10**17), st.integers(-30, 8)
)
by_power = st.builds(
    lambda power, next: 2.0**power * next, st.integers(-1074, 1023), st.sampled_from([1.0, 1 + 2**-52])
)
floats = any_float | by_bits | decimals | by_power
text = st.text() | st.text('"\\\x00\x07\b\t\n\x0b\f\r\x1f\x7fé€😀a', max_size=40)
atoms = st.none() | st.booleans() | st.integers() | st.integers(-(2**64), 2**64) | floats | text | st.just(Colour.RED)
names = st.frozensets(text)


def _holding(inner):
    pairs = st.builds(Pair, inner, inner)
    return st.lists(inner).map(tuple) | st.dictionaries(text, inner) | names | pairs


values = st.recursive(atoms, _holding, max_leaves=25)


@settings(max_examples=600, deadline=None)
@given(values)
@example({"ab": 1, "a": 2, "": 3, 'a"': 4, "é": 5, "z": 6})
@example({f"{number % 7}{number}": number for number in range(200)})
@example(tuple(2.0**power for power in range(-1074, 1024)))
@example((0.0, -0.0, 1e15, 1e16, 1e-5, 1e-6, 5e-324, 1.7976931348623157e308, 2.0**53, 2.0**63))
@example((2**63 - 1, -(2**63), 0, 99999999, 100000000))
@example("x" * 300_000)
def test_known_values_are_written_as_msgspec_writes_them(write, value):
    found = write(value)
    assert found == by_msgspec(value) if found is not None else _has_large_int(value)


def _has_large_int(value) -> bool:
    match value:
        case Pair():
            return _has_large_int(value.left) or _has_large_int(value.right)
        case dict():
            return any(map(_has_large_int, value.values()))
        case tuple():
            return any(map(_has_large_int, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def test_a_tuple_that_begins_with_the_names_of_another_one(write):
    names = tuple(f"offer {number}" for number in range(9))
    for value in (
        (names, (*names, "nothing")),
        (names, names),
        (names, names[:-1], (*names, 1)),
        (names, ("other", *names[1:])),
        (names, (), ("a", "b"), (*names, names)),
        {"a": names, "b": (*names, "x" * 100_000), "c": (*names, "y")},
    ):
        assert write(value) == by_msgspec(value)


@dataclass(slots=True)
class Unset:
    left: int


class Text(str):
    pass


UNKNOWN = (
    *(object(), {1: 2}, "\ud800", {"\ud800": 1}, frozenset({1, 2}), Pair(set()), Pair([1]), Unset.__new__(Unset)),
    *(b"", Text("a"), {Text("a"): 1}, type("Sub", (Pair,), {})(1), Rung.MODEL, 2**63, -(2**63) - 1, 1 + 1j),
)


@pytest.mark.parametrize("value", UNKNOWN)
def test_it_writes_nothing_that_it_does_not_know(write, value):
    for one in (value, (value,), {"a": value}, Pair(1, value)):
        assert write(one) is None
    assert write(Pair(1)) == b'{"left":1,"right":null}', "and goes on with what it knows"


def test_nothing_is_too_deep_for_it(write):
    deep: object = ()
    for _ in range(100_000):
        deep = (deep,)
    assert write(deep) is None


@given(st.floats(-2e6, 2e6) | st.integers(-(10**9), 10**9).map(lambda n: (n + 0.5) / 1e6) | floats)
def test_rounded_to_six_places_as_python_rounds(value):
    found = by_c({Pair: rounded})(Pair(value))
    assert found is None or found == b'{"left":%b,"other":"none"}' % by_msgspec(round(value, 6))
    nearly_half = abs(abs(value) * 1e6 % 1 - 0.5) < 0.002
    assert found is not None or nearly_half or not abs(value) < 1e6


def test_only_floats_are_rounded():
    write = by_c({Pair: rounded})
    assert write(Pair(None, 1)) == b'{"left":null,"other":1}'
    assert write(Pair(1, 1)) is None


LOOSE, INHERITED = type("Loose", (), {"left": 1}), type("Sub", (Pair,), {})


@pytest.mark.parametrize("kinds", [{Pair: []}, *({kind: [Field("left", "l")]} for kind in (int, LOOSE, INHERITED))])
def test_types_without_slots_are_refused(kinds):
    with pytest.raises(ValueError):
        by_c(kinds)


RECORD = DecisionRecord(
    Request("d", "u", "home", 1.5, {"device": 'a "tv"', "b": 2}, None, frozenset({"y", "x"})),
    Facts(shed=Shed(Rung.CACHED, {"m/1": Known(("a", "b"), (0.1, 0.2))})),
    Decision("d", "home", "r", (Shown("a", 1, "é", 0.25, 1e-7, 1.0),), Source.MODEL, "m/1", (), (), (), (), "f", None),
    {"parse": 1e-5},
)


def test_a_record_of_the_log(monkeypatch):
    line = encode(RECORD)
    monkeypatch.setattr("stores.log.decision_log._by_c", None)
    assert encode(RECORD) == line == by_msgspec(RECORD)


def test_what_it_does_not_know_is_written_or_refused_by_msgspec():
    wide = replace(RECORD, durations={"parse": 2**70})
    assert encode(wide) == by_msgspec(wide)
    with pytest.raises(TypeError):
        encode(replace(RECORD, durations={"parse": object()}))


@given(st.floats(0, 253_402_300_799) | st.integers(0, 2**40).map(lambda millis: (millis + 0.5) / 1000))
@example(253_402_300_798.9999)
@example(1_800_000_000.9999996)
def test_a_record_may_end_with_a_moment(write_moment, moment):
    found = write_moment(Pair(1), moment)
    if found is None:
        assert moment >= 253_402_300_799
    else:
        text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert found == b'{"left":1,"right":null,"at":"%b"}' % text.encode()


@pytest.mark.parametrize("moment", [-1.0, 253_402_300_799.0, float("nan"), float("inf"), -1e300])
def test_a_moment_of_no_usual_year_is_left_to_others(write_moment, moment):
    assert write_moment(Pair(1), moment) is None
    assert write_moment((1, 2), 1.0) is None, "what is no record has no last field"
    with pytest.raises(TypeError):
        write_moment(Pair(1), "1")
    with pytest.raises(TypeError):
        write_moment()


@pytest.mark.parametrize(
    "told",
    [((), (), b"1"), (((Pair,),), (), None), (((Pair, (1,)),), (), None), (((Pair, (("left", b"", 1),)),), (), None)],
)
def test_what_does_not_fit_together_is_refused(told):
    kinds, texts, powers = told
    with pytest.raises((ValueError, TypeError)):
        native("stores.log._json", written.VERSION).Writer(kinds, texts, b"", powers or written._POWERS)
    with pytest.raises(ValueError):
        by_c({}, texts=(int,))
