"""Conversions that take their time, simulated: what the naive label misses, and what weighting gives back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.labels.delays import CLIP, LEAST, Delays
from evaluation.labels.labels import label
from evaluation.values.lessons import lessons
from models.encoding import Encoding
from stores.tables import Tables

RATES, MEAN_DELAYS = {"a": 0.2, "b": 0.2}, {"a": 1.0, "b": 8.0}
"""Both convert alike, but b's conversions take days: seen early, b looks worse than it is."""


@pytest.fixture
def late(make_tables):
    """40,000 decisions evenly over 40 days up to the moment up to which outcomes are known; the window is 14 days."""
    n, rng = 40_000, np.random.default_rng(0)
    shown = np.array(["a", "b"])[rng.integers(0, 2, n)]
    mean, rate = (np.vectorize(values.get)(shown) for values in (MEAN_DELAYS, RATES))
    # Exponential delays cut at the window, by inversion.
    delay = -mean * np.log1p(-rng.random(n) * -np.expm1(-14 / mean))
    age = rng.random(n) * 40
    converted = np.flatnonzero((rng.random(n) < rate) & (delay <= age))
    tables = make_tables(
        [(i, shown[i], 0.5, ("a", "b")) for i in range(n)], [(int(i), "convert", None, 0) for i in converted]
    )
    until = pd.Timestamp(tables.dataset["as_of"])
    at = until - pd.to_timedelta(age, unit="D")
    moments = at[converted] + pd.to_timedelta(delay[converted], unit="D")
    decisions, outcomes = tables.decisions.assign(at=at), tables.outcomes.assign(at=moments)
    return Tables(tables.facts, decisions, outcomes, tables.dataset)


def rate_of(arm, logged, weights):
    """Of an arm over all decisions, open ones too, with these weights on the open ones' positives."""
    fresh, place = logged.fresh, logged.arms.index(arm)
    seen = logged.conversion[logged.action == place].sum() + (weights * fresh.conversion)[fresh.action == place].sum()
    return seen / ((logged.action == place).sum() + (fresh.action == place).sum())


def test_counting_what_is_seen_is_biased_and_weighting_it_is_not(late, make_catalog):
    logged = label(late, make_catalog(), "m", fresh=True)
    assert logged.n + len(logged.fresh.action) == 40_000
    naive = {arm: rate_of(arm, logged, np.ones(len(logged.fresh.weight))) for arm in "ab"}
    ours = {arm: rate_of(arm, logged, logged.fresh.weight) for arm in "ab"}
    # Standard error of either: √(0.2 · 0.8 / 20,000) ≈ 0.003. What b still has to come is 0.3 of a third: 0.02.
    assert naive["b"] < 0.2 - 0.015
    assert naive["b"] < naive["a"] - 0.01
    for arm in "ab":
        assert ours[arm] == pytest.approx(0.2, abs=0.009)


def test_the_learner_sees_weighted_positives_and_the_evidence_matured_ones_only(late, make_catalog):
    catalog = make_catalog()
    plain, logged = (label(late, catalog, "m", fresh=fresh) for fresh in (False, True))
    assert plain.fresh is None
    np.testing.assert_array_equal(plain.conversion, logged.conversion)
    assert (logged.closed <= pd.Timestamp("2026-04-01", tz="UTC").timestamp()).all()
    taught = lessons(logged, Encoding.of(catalog, logged.surfaces, logged.arms))
    assert taught.n == 40_000
    assert (taught.weights[: logged.n] == 1).all()
    open_ones = taught.weights[logged.n :]
    assert (open_ones[taught.outcome[logged.n :] == 0] == 1).all()
    assert 1 <= open_ones.min() < 1.1 < open_ones.max() <= 1 / CLIP


def test_outcomes_from_after_the_moment_that_is_known_count_for_nothing(make_catalog, make_tables):
    tables = make_tables([(i, "a", 1.0) for i in range(3)], [(0, "convert", None, 1), (1, "convert", None, 5)])
    tables.decisions["at"] = tables.decisions["at"] + pd.to_timedelta([0, 29, 29], unit="D")
    tables.outcomes["at"] = tables.outcomes["at"] + pd.to_timedelta([0, 29], unit="D")  # 34 days: `as_of` is 31
    logged = label(tables, make_catalog(), "m", fresh=True)
    assert logged.fresh.conversion.tolist() == [0, 0]


def test_an_arm_with_few_conversions_is_seen_as_early_as_its_group():
    slow, quick, few = np.full(LEAST, 0.9), np.full(LEAST, 0.1), np.full(LEAST - 1, 0.5)
    delays = Delays(
        np.repeat([0, 1, 2], [LEAST, LEAST, LEAST - 1]), np.concatenate([slow, quick, few]), ("x", "y", "y")
    )
    seen = delays.seen(np.array([0, 1, 2, 2]), np.array([0.5, 0.5, 0.3, 0.6]))
    assert seen.tolist() == [CLIP, 1.0, pytest.approx(LEAST / (2 * LEAST - 1)), 1.0]


@given(st.lists(st.floats(0, 1), max_size=300), st.lists(st.floats(0, 3), min_size=2, max_size=20))
def test_what_is_seen_never_falls_with_age_and_is_everything_once_the_window_has_closed(delays, ages):
    found = Delays(np.zeros(len(delays), np.intp), np.array(delays, float), ("x",))
    seen = found.seen(np.zeros(len(ages), np.intp), np.sort(ages))
    assert (np.diff(seen) >= 0).all()
    assert (seen >= CLIP).all()
    assert (seen[np.sort(ages) >= 1] == 1).all()
