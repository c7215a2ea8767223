"""The bytes of a user's events: what is read is what was written, by this layout or by an earlier or a later one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.domain import DECISION, Event, HistoryEvent
from stores.online.layout import pack_event, unpack_history

MOMENTS = st.sampled_from([0.0, -0.0, 5.0, 1e9]) | st.floats(allow_nan=False)
WORDS = st.sampled_from(["impression", "click", DECISION, "å", ""])
EVENTS = st.builds(
    Event, st.just("e"), WORDS, st.sampled_from(["d1", "d2"]), WORDS, st.just("u"), WORDS, MOMENTS, st.none()
)


def of(event):
    return HistoryEvent(event.type, event.offer, event.surface, event.at)


@given(st.lists(EVENTS, max_size=8), st.sampled_from(["", "d1"]))
def test_events_come_back_by_time_and_without_what_the_decision_itself_showed(events, own):
    kept = [one for one in events if one.decision_id != own or one.type not in ("impression", DECISION)]
    found = unpack_history(list(map(pack_event, events)), own)
    assert sorted(found, key=repr) == sorted(map(of, kept), key=repr)
    assert [one.at for one in found] == sorted(one.at for one in kept)


def test_events_with_fewer_or_more_parts_than_today_are_read_in_their_place_among_the_others():
    today = Event("e", "click", "d", "annual", "u", "home", 2.0)
    others = [(3.0, "impression", "duo", "home"), (1, "convert", "duo", "home", 7, "something new")]
    found = unpack_history([*map(msgspec.msgpack.encode, others), pack_event(today)], "d")
    assert found == (
        HistoryEvent("convert", "duo", "home", 1.0),
        HistoryEvent("click", "annual", "home", 2.0),
        HistoryEvent("impression", "duo", "home", 3.0),
    )
    assert isinstance(found[0].at, float)


@pytest.mark.parametrize(
    "damaged", [b"", b"\xc1", msgspec.msgpack.encode((1.0, "click")), pack_event(Event(*"etdous", 1.0))[:-1]]
)
def test_what_is_no_event_is_said_to_be_none(damaged):
    with pytest.raises(msgspec.DecodeError):
        unpack_history([pack_event(Event(*"etdous", 1.0)), damaged])
