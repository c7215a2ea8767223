"""A decision's line holds the decision, to the last bit and with the type of every value."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.domain import Decision, Event, Facts, HistoryEvent, Policy, Request, Shown, Source
from stores.log.decision_log import DecisionRecord, canonical, decided_at, decode, decode_event, encode, event_line

floats = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=8)
texts = st.lists(text, max_size=3).map(tuple)
names = st.frozensets(text, max_size=4)
counts = st.integers(-(2**63), 2**63)
values = st.none() | st.booleans() | counts | floats | floats.map(round).map(float) | text | names
value_maps = st.dictionaries(text, values, max_size=5)

requests = st.builds(Request, text, text, text, floats, value_maps, st.none() | st.integers(0, 9), names)
facts = st.builds(
    Facts,
    value_maps,
    st.none() | floats,
    st.lists(st.builds(HistoryEvent, text, text, text, floats), max_size=3).map(tuple),
    st.dictionaries(text, counts, max_size=3),
    names,
    names,
    texts,
)
policies = st.builds(Policy, texts, text, st.none() | text, counts, counts, counts)
decisions = st.builds(
    Decision,
    decision_id=text,
    surface=text,
    release=text,
    slate=st.lists(
        st.builds(Shown, text, st.integers(1, 9), st.none() | text, st.none() | floats, st.none() | floats, floats),
        max_size=2,
    ).map(tuple),
    source=st.sampled_from(Source),
    model=st.none() | text,
    degraded=texts,
    eligible=texts,
    p_convert=st.lists(floats, max_size=3).map(tuple),
    scores=st.lists(floats, max_size=3).map(tuple),
    truth=text,
    policy=st.none() | policies,
    arms=st.dictionaries(text, text, max_size=2),
    holdout=st.none() | text,
    ghost=st.none() | text,
)
records = st.builds(DecisionRecord, requests, facts, decisions, st.dictionaries(text, floats, max_size=3))


def typed(values) -> dict:
    """1, 1.0 and True are equal to Python, but not to us; nor are 0.0 and -0.0."""
    return {name: (type(value), repr(value) if isinstance(value, float) else value) for name, value in values.items()}


@settings(max_examples=150, deadline=None)
@given(records)
def test_what_was_encoded_is_decoded_to_the_last_bit(record):
    line = encode(record)
    back = decode(line)
    assert back == record
    assert typed(back.request.context) == typed(record.request.context)
    assert typed(back.facts.features) == typed(record.facts.features)
    assert encode(back) == line
    assert canonical(back.decision) == canonical(record.decision)
    assert decided_at(line) == record.request.now
    assert b"\n" not in line


def test_equal_decisions_have_equal_bytes_whatever_order_their_parts_came_in():
    empty = Decision("d", "home", "r", (), Source.RULES, None, (), (), (), (), "", None)
    one = replace(empty, arms={"a": "x", "b": "y"})
    other = replace(empty, arms={"b": "y", "a": "x"})
    assert canonical(one) == canonical(other)
    assert canonical(one) != canonical(empty)


@given(st.builds(Event, text, text, text, text, text, text, floats, st.none() | floats))
def test_an_event_is_read_back_from_its_line(event):
    assert decode_event(event_line(event)) == event
    assert b"\n" not in event_line(event)


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"request": 1', b"\xff"])
def test_a_line_that_is_no_decision_is_refused(line):
    with pytest.raises(msgspec.DecodeError):
        decode(line)
