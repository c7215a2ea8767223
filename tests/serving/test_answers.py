"""The bytes of an answer."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from decisioning.domain import Decision, Shown, Source
from serving.deciding import answers
from serving.deciding.answers import encoded, rfc3339

text = st.text(max_size=6)
chances = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e4, 1e4) | st.just(5e-7)
slates = st.lists(
    st.builds(
        Shown, text, st.integers(1, 9), st.none() | text, st.none() | chances, st.none() | chances, st.floats(0, 1)
    ),
    max_size=3,
).map(tuple)


def decision(slate=(), source=Source.MODEL, model="m/1", degraded=(), name="d") -> Decision:
    return Decision(name, "home", "r1", slate, source, model, degraded, (), (), (), "f", None)


@given(st.builds(decision, slates, st.sampled_from(Source), st.none() | text, st.lists(text, max_size=2).map(tuple)))
@example(decision((Shown("a", 1, None, 0.0000005, 1.0000015, 1.0), Shown("b", 2, "b", 1.0, 3e7, 0.25))))
@example(decision(name="\ud800".encode("utf-8", "replace").decode()))
def test_an_answer_has_the_same_bytes_with_the_extension_and_without(one):
    assert encoded(one, 1_800_000_000.25, None) == answers._by_msgspec(one, 1_800_000_000.25, None)


def test_an_answer_without_the_extension(monkeypatch):
    one = decision((Shown("a", 1, None, 0.1234567, 2.5, 1.0),))
    whole = encoded(one, 1_800_000_000.25, None)
    monkeypatch.setattr(answers, "_by_c", None)
    assert (
        encoded(one, 1_800_000_000.25, None)
        == whole
        == (
            b'{"decision_id":"d","surface":"home","offers":[{"offer":"a","slot":1,"creative":null,"p_convert":0.123457,'
            b'"score":2.5,"probability":1.0}],"source":"model","degraded":[],"release":"r1","model":"m/1",'
            b'"expires_at":"2027-01-15T08:00:00.250Z"}'
        )
    )


@given(st.floats(0, 32_503_680_000) | st.integers(0, 4 * 10**12).map(lambda millis: millis / 1000))
@example(1_800_000_000.9999996)
@example(1_800_000_000.0005)
@example(0.0)
def test_a_moment_is_written_as_datetime_would_write_it(moment):
    expected = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rfc3339(moment) == expected
    for later in (0.0, 0.0004, 0.001, 1.0, 86_400.0):
        one, expires = decision(), moment + later
        assert encoded(one, expires, None) == answers._by_msgspec(one, expires, None)
