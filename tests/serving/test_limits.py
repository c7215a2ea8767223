"""A client's limit: so many at once, as many in each period, for all workers together."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.native import native
from serving.limits import VERSION, Allowance, Counts
from stores.api_keys import Client, Limit

REPOSITORY = Path(__file__).parents[2]


def allowance(requests: int, seconds: int = 1, counts: Counts | None = None, place: int = 0) -> Allowance:
    made = Allowance.of(Client("ios", place, (), (), Limit(requests, seconds)), counts or Counts())
    assert made is not None
    return made


def test_a_client_without_a_limit_has_no_allowance():
    assert Allowance.of(Client("ios", 0, (), ()), Counts()) is None


@given(st.integers(1, 3000), st.sampled_from([1, 60, 86_400]), st.floats(0, 1e7))
def test_exactly_the_limit_gets_through_at_once_and_then_it_says_how_long_to_wait(requests, seconds, now):
    fresh = allowance(requests, seconds)
    assert [fresh.take(now) for _ in range(requests)] == [0.0] * requests
    wait = fresh.take(now)
    assert 0 < wait <= 2 * seconds
    assert fresh.take(now + wait * 1.001 + 1e-6) == 0.0, "who waits as told gets through"


@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 12)), min_size=1, max_size=60),
    st.floats(0, 1e6),
)
def test_in_no_span_of_time_more_gets_through_than_the_limit_and_what_it_grows_by_meanwhile(
    requests, seconds, bursts, start
):
    limited, now, passed = allowance(requests, seconds), start, []
    for pause, asked in bursts:
        now += pause
        passed += [now for _ in range(asked) if limited.take(now) == 0.0]
    for first, since in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= requests * (1 + (passed[last] - since) / seconds) + 1 + 1e-3


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.3)), max_size=80), st.integers(1, 9))
def test_workers_let_through_together_what_one_alone_would(turns, requests):
    alone, together = allowance(requests), Counts(workers=4)
    shared, now = allowance(requests, counts=together, place=7), 50.0
    for worker, pause in turns:
        now += pause
        together.worker = worker
        assert shared.take(now) == alone.take(now)


@given(
    st.integers(1, 12),
    st.sampled_from([1, 60, 86_400]),
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1.5)), max_size=60),
    st.floats(0, 1e7) | st.floats(4_194_300, 4_194_310),
)
def test_what_is_taken_at_once_is_what_would_be_taken_and_counted_as_it_would(requests, seconds, turns, now):
    counts, others = Counts(workers=3), Counts(workers=3)
    quick, plain = (allowance(requests, seconds, one, 7) for one in (counts, others))
    for worker, pause in turns:
        now += pause * seconds
        counts.worker = others.worker = worker
        taken, wait = quick.at_once(now), plain.take(now)
        assert (0.0 if taken else quick.take(now)) == wait
        assert taken == (wait == 0.0) or native("serving._limits", VERSION) is None
        assert counts.words == others.words


@pytest.mark.parametrize("now", [-1.0, float("nan"), float("inf"), 1e300, 5])
def test_at_once_nothing_is_taken_at_a_moment_that_is_none(now):
    counts = Counts()
    assert not allowance(9, counts=counts).at_once(now)
    assert not any(counts.words)


def test_at_once_nothing_is_taken_by_a_worker_that_is_none():
    counts = Counts(workers=2)
    limited = allowance(9, counts=counts)
    for worker in (-1, 2, 2**40):
        counts.worker = worker
        assert not limited.at_once(5.0)
    assert not any(counts.words)


def test_clients_do_not_use_up_each_others_limits():
    counts = Counts()
    ios, tv = allowance(2, counts=counts, place=0), allowance(2, counts=counts, place=1)
    assert [ios.take(5.0) > 0 for _ in range(3)] == [False, False, True]
    assert tv.take(5.0) == 0.0


def test_the_largest_limit_is_counted_to_its_end():
    counts = Counts(workers=2)
    largest = allowance(1_000_000, counts=counts)
    while largest.at_once(5.0) or largest.take(5.0) == 0.0:
        counts.words[0] += 999  # in strides
    assert 1_000_000 <= counts.words[0] & (2**20 - 1) < 1_001_000
    assert largest.take(5.999) > 0
    assert largest.take(6.5) == 0.0


WORKERS = """
import os, sys, time
from serving.limits import Allowance, Counts
from stores.api_keys import Client, Limit
counts = Counts(workers=3)
limited = Allowance.of(Client("ios", 3, (), (), Limit(2000, 60)), counts)
start, reading, writing = time.monotonic() + 0.3, *os.pipe()
for worker in range(3):
    if os.fork() == 0:
        counts.worker = worker
        while time.monotonic() < start:
            pass
        passed = 0
        while (now := time.monotonic()) < start + 1.0:
            passed += limited.at_once(now) or limited.take(now) == 0.0
            while time.monotonic() < now + 20e-6:  # no server answers faster
                pass
        os.write(writing, b"%d\\n" % passed)
        os._exit(0)
for worker in range(3):
    os.wait()
print(sum(map(int, os.read(reading, 1000).split())))
"""


def test_forked_workers_that_all_ask_at_once_let_one_too_many_through_each_at_most():
    done = subprocess.run([sys.executable, "-c", WORKERS], cwd=REPOSITORY, capture_output=True, check=True)
    assert 2000 <= int(done.stdout) <= 2000 + 2 + 2 * 2000 / 60, "2,000 at once; what comes back in a second or two"
