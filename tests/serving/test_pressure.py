"""How far behind a worker is, and what that leaves of a decision."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.domain import Known, Rung, Scores
from serving.deciding.score_cache import MAX_AGE, Noted, ScoreCache
from serving.pressure import BEAT, LATE, Pressure, rung

ORDER = list(Rung)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_what_is_read_by_a_loop_that_looks_often_has_just_arrived():
    async def run():
        pressure = Pressure(clock := Clock())
        assert pressure.arrived() == clock.now
        clock.now += BEAT / 2
        assert pressure.arrived() == clock.now
        assert pressure.behind() == 0.0

    asyncio.run(run())


def test_what_is_read_after_a_long_turn_has_waited_half_of_it_on_average():
    async def run():
        pressure = Pressure(clock := Clock())
        began = pressure.arrived()
        clock.now += 0.08  # nobody looked at a socket meanwhile
        assert pressure.arrived() == pytest.approx(began + 0.04)
        assert pressure.behind() == pytest.approx(0.08)

    asyncio.run(run())


def test_a_request_is_refused_for_what_is_in_hand_or_for_its_own_great_age():
    pressure = Pressure(clock := Clock())
    pressure.serve([0.03])
    pressure.in_hand = set(range(100))
    assert not pressure.is_late(clock.now), "nobody knows yet what an answer takes"
    pressure.seconds = 0.0004
    assert pressure.is_late(clock.now)
    assert pressure.behind() == pytest.approx(0.04)
    pressure.in_hand = set(range(70))
    assert not pressure.is_late(clock.now)
    arrived = clock.now
    clock.now += LATE * 0.9
    assert not pressure.is_late(arrived), "later than its surface wants, but there is room"
    clock.now += LATE * 0.2
    assert pressure.is_late(arrived)


def test_it_learns_what_an_answer_takes_from_a_loop_that_is_busy_and_forgets_when_that_is_over():
    async def run():
        pressure = Pressure(clock := Clock())

        async def turn(seconds, answered):
            pressure.arrived()  # which has the heart beat
            pressure.arrived()  # which keeps it beating
            timer = pressure._timer
            clock.now += seconds
            pressure.answered += answered
            while pressure._timer is timer:
                await asyncio.sleep(BEAT / 5)

        for _ in range(20):
            await turn(0.03, 100)
        assert pressure.seconds == pytest.approx(0.0003)
        assert pressure.behind() == pytest.approx(0.03, rel=0.01)
        for _ in range(100):
            await turn(BEAT, 1)
        assert pressure.behind() < 0.001
        assert pressure.seconds < 0.0003 / 10

    asyncio.run(run())


def test_one_long_answer_does_not_make_every_answer_long():
    async def run():
        pressure = Pressure(clock := Clock())
        pressure.arrived()
        pressure.arrived()
        clock.now += 2.0  # reasons for a thousand offers, or a process that was stopped
        pressure.answered += 20
        while not pressure.seconds:
            await asyncio.sleep(BEAT)
        assert pressure.seconds <= 0.001

    asyncio.run(run())


def test_the_heart_stops_when_nothing_comes_and_an_idle_hour_is_no_lag():
    async def run():
        pressure = Pressure(clock := Clock())
        pressure.arrived()
        while pressure._timer is not None:
            await asyncio.sleep(BEAT)
        clock.now += 3600.0
        assert pressure.behind() == 0.0
        assert pressure.arrived() == clock.now

    asyncio.run(run())


def test_it_is_as_patient_as_the_most_patient_surface_but_not_more_than_that():
    pressure = Pressure(Clock())
    pressure.serve([0.03, 0.05])
    assert pressure.patience == 0.05
    pressure.serve([0.03, 5.0])
    assert pressure.patience == LATE
    pressure.serve([])
    assert pressure.patience == LATE


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1), st.booleans())
def test_the_older_a_request_the_lower_its_rung(one, other, budget, is_read):
    younger, older = sorted((one, other))
    assert ORDER.index(rung(younger, budget, is_read=is_read)) <= ORDER.index(rung(older, budget, is_read=is_read))


@pytest.mark.parametrize(
    ("age", "budget", "expected"),
    [
        (0.0, 0.05, Rung.MODEL),
        (0.014, 0.05, Rung.MODEL),
        (0.016, 0.05, Rung.CACHED),
        (0.03, 0.05, Rung.PRIOR),
        (0.046, 0.05, Rung.FALLBACK),
        (0.026, 0.03, Rung.FALLBACK),
        (0.0, 0.002, Rung.MODEL),
        (0.002, 0.002, Rung.FALLBACK),
    ],
)
def test_the_steps_are_those_that_the_documentation_names(age, budget, expected):
    assert rung(age, budget) is expected
    assert rung(age, budget, is_read=True) is not Rung.FALLBACK, "what has been read is used"


# --- The scores that are remembered


def keep(cache, user, *said, at=0.0):
    cache.said.clear()
    for one in said:
        say(cache, *one)
    cache.keep(user, "banner", at)


def say(cache, label, offers, p_convert):
    """What a model of this label says."""
    scorer = SimpleNamespace(score=lambda *_: Scores(p_convert, p_convert))
    assert Noted(scorer, cache, label).score({}, "banner", offers).p_convert is p_convert


def test_it_finds_what_was_last_said_of_a_user_on_a_surface():
    cache = ScoreCache()
    keep(cache, "ann", ("upsell/1", ["mug"], [0.5]))
    keep(cache, "ann", ("upsell/1", ["mug"], [0.25]), ("merch/2", ["cap"], [0.1]))
    assert cache.find("ann", "banner", 1.0) == {
        "upsell/1": Known(("mug",), (0.25,)),
        "merch/2": Known(("cap",), (0.1,)),
    }
    assert cache.find("ann", "strip", 1.0) == cache.find("bob", "banner", 1.0) == {}


def test_what_is_said_outside_of_a_decision_is_nobodys():
    cache = ScoreCache()
    say(cache, "upsell/1", ["mug"], [0.9])
    keep(cache, "ann", ("upsell/1", ["mug"], [0.5]))
    say(cache, "upsell/1", ["mug"], [0.9])
    keep(cache, "bob")
    assert cache.find("ann", "banner", 1.0)["upsell/1"].p_convert == (0.5,)
    assert cache.find("bob", "banner", 1.0) == {}


@given(st.lists(st.floats(), min_size=1), st.booleans())
def test_what_was_said_is_kept_to_the_last_bit_whatever_it_is_made_of(numbers, is_array):
    cache, scorer = ScoreCache(), SimpleNamespace()
    said = np.array(numbers) if is_array else [*numbers[:-1], np.float64(numbers[-1])]
    scorer.score = lambda *_: Scores(tuple(numbers), said)
    offers = [f"offer{place}" for place in range(len(numbers))]
    cache.said.clear()
    Noted(scorer, cache, "upsell/1").score({}, "banner", offers)
    cache.keep("ann", "banner", 7.0)
    known = cache.find("ann", "banner", 7.0)["upsell/1"]
    assert known.offers == tuple(offers)
    assert np.array(known.p_convert).tobytes() == np.array(known.effect).tobytes() == np.array(numbers).tobytes()


def test_it_forgets_what_is_old_and_what_is_too_much():
    cache = ScoreCache(most=10)
    keep(cache, "ann", ("upsell/1", ["mug"], [0.5]))
    assert cache.find("ann", "banner", MAX_AGE + 1.0) == {}
    assert cache.find("ann", "banner", -1.0) == {}, "a clock that was set back"
    for number in range(100):
        keep(cache, f"user{number}", ("upsell/1", ["mug"], [0.5]))
        assert len(cache) <= 10
        assert cache.find(f"user{number}", "banner", 1.0)
    assert cache.find("ann", "banner", 1.0) == {}
