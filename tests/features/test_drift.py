"""How far a distribution moved, and how far it may."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.drift import DEFAULT_PSI, Cells, Counts, expected, limit, psi
from features.drift_report import Subject, compare, freshness, labels

CATEGORIES = {"flag", "plan", "rare"}

numbers = st.lists(st.floats(-1e12, 1e12) | st.just(np.nan), min_size=1, max_size=60).map(np.array)
few = st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=1, max_size=60).map(np.array)
columns = numbers | few


def counted(n):
    return Counts(Cells(np.arange(len(n) - 2.0), True), np.array(n), 0.0, 0.0, float(sum(n)))


@given(st.integers(2, 12).flatmap(lambda b: st.tuples(*[st.lists(st.integers(0, 50), min_size=b, max_size=b)] * 2)))
def test_psi_is_never_negative_the_same_both_ways_and_nothing_between_equals(pair):
    before, after = map(counted, pair)
    assume(before.rows and after.rows)
    assert psi(before, after) >= 0
    assert psi(before, after) == psi(after, before)
    assert psi(before, before) == psi(after, counted(pair[1])) == 0


def test_psi_is_the_sum_of_its_formula():
    before, after = counted([50, 30, 20, 0]), counted([30, 30, 40, 0])
    p, q = (np.array([50.5, 30.5, 20.5]) / 101.5, np.array([30.5, 30.5, 40.5]) / 101.5)
    assert psi(before, after) == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=1e-12)


@given(columns, columns, st.booleans(), st.integers(0, 60))
def test_parts_counted_apart_add_up_to_the_whole(reference, values, by_value, at):
    cells = Cells.of(reference, by_value=by_value)
    whole, sum_of_parts = Counts.of(cells, values), Counts.of(cells, values[:at]) + Counts.of(cells, values[at:])
    assert (whole.n == sum_of_parts.n).all()
    assert whole.rows == len(values) == sum_of_parts.size
    if whole.mean:
        known = values[np.isfinite(values)]
        scale = np.abs(np.concatenate([known, reference[np.isfinite(reference)]])).max() + 1
        assert whole.mean[0] == pytest.approx(known.mean(), abs=1e-12 * scale)
        assert sum_of_parts.mean[0] == pytest.approx(whole.mean[0], abs=1e-12 * scale)
        assert sum_of_parts.mean[1] == pytest.approx(whole.mean[1], rel=1e-9, abs=1e-12 * scale**2)


def test_counts_of_other_cells_do_not_add_up():
    one, other = (Counts.of(Cells.of(np.array(v), by_value=True), np.array(v)) for v in ([1.0, 2.0], [1.0, 3.0]))
    with pytest.raises(ValueError, match="different cells"):
        one + other


@given(columns, columns, st.booleans())
@settings(max_examples=200)
def test_no_figure_of_a_comparison_is_not_a_number(before, after, by_value):
    cells = Cells.of(before, by_value=by_value)
    [one] = compare([Subject("x", Counts.of(cells, before), Counts.of(cells, after), (), labels(cells), True)])
    figures = [
        one.psi,
        one.limit,
        *one.missing,
        *one.shares[0],
        *one.shares[1],
        *(v for v in one.means if v is not None),
    ]
    figures += [figure for figure in (one.unseen, one.shift, one.shift_error) if figure is not None]
    assert np.isfinite(figures).all()
    assert len(one.labels) == len(one.shares[0]) == len(one.shares[1])
    assert sum(one.shares[0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("before", "after"), [([5.0] * 500, [6.0] * 500), ([5.0] * 500, [4.0] * 500), ([0, 1] * 250, [0, -1] * 250)]
)
def test_a_constant_or_a_heap_at_the_bottom_hides_no_new_value(before, after):
    before, after = np.array(before, float), np.array(after, float)
    cells = Cells.of(before, by_value=False)
    assert psi(Counts.of(cells, before), Counts.of(cells, after)) > 1
    assert psi(Counts.of(cells, before), Counts.of(cells, before)) == 0


def test_what_is_missing_has_a_cell_of_its_own():
    before, after = np.repeat([1.0, np.nan], [990, 10]), np.repeat([1.0, np.nan], [700, 300])
    cells = Cells.of(before, by_value=False)
    found = [Counts.of(cells, values) for values in (before, after)]
    assert [one.missing for one in found] == [0.01, 0.3]
    assert psi(*found) > DEFAULT_PSI


def test_values_that_the_reference_never_had_are_unseen():
    before, after = np.repeat([0.0, 1.0], [60, 40]), np.repeat([0.0, 1.0, 7.0], [60, 20, 20])
    cells = Cells.of(before, by_value=True)
    assert Counts.of(cells, after).unseen_by(Counts.of(cells, before)) == 0.2


def test_a_million_categories_share_a_cell_beyond_the_commonest():
    values = np.concatenate([np.zeros(1000), np.arange(1_000_000.0)])
    cells = Cells.of(values, by_value=True)
    counts = Counts.of(cells, values)
    assert len(cells.marks) == 50
    assert counts.n[0] == 1001
    assert counts.rows == 1_001_000


def test_few_numbers_have_a_cell_each_and_many_have_quantiles():
    assert labels(Cells.of(np.array([0.0, 0, 1, 2]), by_value=False)) == ("< 0", "0", "≤ 1", "≤ 2", "> 2", "missing")
    cells = Cells.of(np.arange(1000.0), by_value=False)
    assert Counts.of(cells, np.arange(1000.0)).n.tolist() == [101, *[100] * 8, 99, 0]


def test_decisions_of_one_user_count_about_once():
    values, cells = np.zeros(100), Cells.of(np.zeros(100), by_value=True)
    assert Counts.of(cells, values).size == 100
    assert Counts.of(cells, values, np.repeat(np.arange(20), 5)).size == 20
    assert Counts.of(cells, values, np.repeat([0, 1], [99, 1])).size == pytest.approx(100**2 / (99**2 + 1))


def test_the_expected_psi_of_one_distribution_is_what_samples_show():
    random = np.random.default_rng(4)
    found, told = [], []
    for _ in range(200):
        before, after = random.gamma(2, 1, 2000), random.gamma(2, 1, 700)
        cells = Cells.of(before, by_value=False)
        one, other = Counts.of(cells, before), Counts.of(cells, after)
        found.append(psi(one, other))
        told.append(expected(one, other))
    assert np.mean(told) == pytest.approx(9 * (1 / 2000 + 1 / 700))
    assert np.mean(found) == pytest.approx(np.mean(told), rel=0.07)


def window(random, n, shift=1.0):
    return {
        "heap": random.poisson(0.7, n).astype(float),
        "minutes": random.gamma(2, 50, n) * shift,
        "score": random.normal(size=n),
        "often_missing": np.where(random.random(n) < 0.05, np.nan, random.exponential(1, n)),
        "constant": np.zeros(n),
        "flag": (random.random(n) < 0.1).astype(float),
        "plan": random.choice(7, n, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.04, 0.01]).astype(float),
        "rare": (random.random(n) < 0.003).astype(float),
    }


def drifted(windows):
    subjects = []
    for name in windows[0]:
        cells = Cells.of(windows[-2][name], by_value=name in CATEGORIES)
        *earlier, before, after = (Counts.of(cells, one[name]) for one in windows)
        subjects.append(Subject(name, before, after, earlier, labels(cells), True))
    return [one.name for one in compare(subjects) if one.status == "drifted"]


@pytest.mark.parametrize(("n", "earlier"), [(100, 0), (100, 4), (1000, 0), (1000, 4), (4000, 8)])
def test_what_did_not_move_is_hardly_ever_named(n, earlier):
    alarms = sum(
        bool(drifted([window(random, n) for _ in range(earlier + 2)]))
        for random in map(np.random.default_rng, range(100))
    )
    assert alarms <= 4


def test_the_same_people_from_day_to_day_are_hardly_ever_named():
    """What people did in the last seven days, on six days in a row: windows that share their people and most events."""
    people, days, features, alarms = 300, 6, 8, 0
    for random in map(np.random.default_rng, range(60)):
        habits = random.gamma(0.7, 1.0, (features, 1, people))
        total = random.poisson(np.repeat(habits, days + 7, axis=1)).cumsum(axis=1)
        weeks = [total[:, day + 7] - total[:, day] for day in range(days)]
        alarms += bool(drifted([{f"count_{n}": week[n].astype(float) for n in range(features)} for week in weeks]))
    assert alarms <= 2


def test_a_shift_of_one_feature_names_that_one_and_no_other():
    found = []
    for random in map(np.random.default_rng, range(40)):
        past = [window(random, 4000) for _ in range(5)]
        found.append(drifted([*past, window(random, 4000, shift=1.3)]))
    assert found.count(["minutes"]) >= 39


def test_history_allows_what_was_usual_and_forbids_what_was_not():
    """Seasons move one feature by 0.3 each time, and another hardly at all: a move of 0.1 is only the second's."""
    cells = Cells.of(np.arange(2.0), by_value=True)
    season = [Counts.of(cells, np.repeat([0.0, 1.0], [share, 10_000 - share])) for share in (5000, 7600) * 3]
    steady = [Counts.of(cells, np.repeat([0.0, 1.0], [share, 10_000 - share])) for share in (5000, 5050) * 3]
    moved = Counts.of(cells, np.repeat([0.0, 1.0], [6600, 3400]))
    assert 0.09 < psi(steady[-2], moved) < 0.12
    assert psi(steady[-2], moved) > limit(steady[-2], moved, steady[:-2], 0.001).psi
    assert psi(season[-2], season[-1]) < limit(season[-2], season[-1], season[:-2], 0.001).psi
    assert limit(season[-2], season[-1], season[:-2], 0.001).basis == "history"
    assert limit(steady[-2], moved, [], 0.001).psi == DEFAULT_PSI


def test_samples_smaller_than_those_of_the_history_may_move_farther():
    random = np.random.default_rng(1)
    cells = Cells.of(random.normal(size=20_000), by_value=False)
    large = [Counts.of(cells, random.normal(size=20_000)) for _ in range(6)]
    small = Counts.of(cells, random.normal(size=150))
    assert psi(large[-1], small) > limit(large[-2], large[-1], large[:-2], 0.001).psi
    assert psi(large[-1], small) < limit(large[-1], small, large[:-1], 0.001).psi


def test_values_older_than_their_age_are_stale():
    ages = np.array([1.0] * 97 + [90_000.0] * 3)
    one, other = freshness(ages, {"young": 86_400.0, "old": 172_800.0})
    assert (one.name, one.stale, one.ok) == ("old", 0.0, True)
    assert (other.name, other.stale, other.ok) == ("young", 0.03, False)
    assert freshness(np.array([]), {"young": 1.0}) == ()
    assert replace(other, stale=0.01).ok
