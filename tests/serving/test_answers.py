"""The bytes of an answer."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from serving.answers import rfc3339


@given(st.floats(0, 32_503_680_000) | st.integers(0, 4 * 10**12).map(lambda millis: millis / 1000))
@example(1_800_000_000.9999996)
@example(1_800_000_000.0005)
@example(0.0)
def test_a_moment_is_written_as_datetime_would_write_it(moment):
    expected = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rfc3339(moment) == expected
