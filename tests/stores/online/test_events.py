"""A user's events unpacked by C are those by Python, in their order; what C leaves to Python, it leaves as a whole."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.domain import DECISION, Event, HistoryEvent
from decisioning.native import missing, native
from stores.online.layout import _SHOWN, VERSION, _mark, _unpack_history, pack_event

NATIVE = "stores.online._events"
pytestmark = pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))

MOMENTS = st.sampled_from([0.0, -0.0, 5.0, 1e9, float("inf")]) | st.floats(allow_nan=False)
WORDS = st.sampled_from(["impression", "click", DECISION, "å", "", "x" * 31, "x" * 32, "ü" * 200]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=3
)
EVENTS = st.builds(
    Event, st.just("e"), WORDS, st.sampled_from(["d1", "d2"]), WORDS, st.just("u"), WORDS, MOMENTS, st.none()
)
PACK = msgspec.msgpack.encode
NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 255, 256, 2**16, 2**32 - 1, 2**32, -1, -200])
ROWS = st.tuples(st.floats() | NUMBERS, WORDS, WORDS, WORDS, NUMBERS).map(PACK)
ODD = (
    st.lists(st.floats() | NUMBERS | WORDS | st.none() | st.binary(max_size=3), max_size=7).map(PACK)
    | st.binary(max_size=20)
    | st.tuples(ROWS, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]])
    | st.tuples(ROWS, st.binary(min_size=1, max_size=2)).map(b"".join)
    | st.tuples(ROWS, st.integers(0, 30), st.integers(0, 255)).map(
        lambda hit: hit[0][: hit[1]] + bytes([hit[2]]) + hit[0][hit[1] + 1 :]
    )
)


def left(*args):
    """In place of Python's own: None tells that it was asked."""


def reader(limit=64, twin=left):
    return native(NATIVE, VERSION).Reader(twin, _mark, HistoryEvent, _SHOWN, limit)


def parts(events):
    """All of each event, with the sign of a zero."""
    return [(one.type, one.offer, one.surface, repr(one.at)) for one in events]


@given(st.lists(EVENTS, max_size=40), st.sampled_from(["", "d1"]))
@settings(max_examples=300, deadline=None)
def test_the_same_events_in_the_same_order(events, own):
    packed = list(map(pack_event, events))
    found = reader(1000).unpack(packed, own)
    assert type(found) is tuple
    assert set(map(type, found)) <= {HistoryEvent}
    assert found == (twin := _unpack_history(packed, own))
    assert parts(found) == parts(twin)
    assert hash(found) == hash(twin)


@given(st.lists(EVENTS.map(pack_event) | ROWS | ODD, max_size=6), st.sampled_from(["", "d1"]))
@settings(max_examples=1000, deadline=None)
def test_whatever_the_bytes_are_it_is_the_same_or_left_to_python(packed, own):
    found = reader(8).unpack(packed, own)
    if found is not None:
        assert parts(found) == parts(_unpack_history(packed, own))


def test_more_kinds_than_are_kept_are_left_to_python():
    one = reader(limit=3)
    events = [pack_event(Event("e", "click", "d", f"offer-{n}", "u", "home", float(n))) for n in range(4)]
    assert one.unpack(events) is None
    assert one.unpack(events[:3]) == _unpack_history(events[:3])
    assert one.unpack([b"\x95\xcb" + bytes(8) + b"\xa1\xff\xa0\xa0\x01"]) is None, "no UTF-8"
    many = reader(limit=10_000)
    for n in range(3000):
        event = pack_event(Event("e", "click", "d", f"offer-{n % 500}", "u", f"s{n // 500}", float(n)))
        assert many.unpack([event])[0].offer == f"offer-{n % 500}"


@pytest.mark.parametrize("args", [(), ((), ""), ([], None), ([], b"d1"), ([], "", "")])
def test_other_arguments_are_refused(args):
    with pytest.raises(TypeError):
        reader().unpack(*args)
    assert reader().unpack([]) == reader().unpack([], "d1") == ()


def test_what_python_says_of_the_rest_is_the_answer():
    assert reader(twin=lambda *args: args).unpack([b"?"], "d1") == ([b"?"], "d1")
    with pytest.raises(msgspec.DecodeError):
        reader(twin=_unpack_history).unpack([b"?"])
