import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.values.reliability import (
    LEAST_CONVERSIONS,
    CalibrationCell,
    Reliability,
    calibration_cells,
    equal_edges,
)


def drawn(n=20_000, seed=0, factor=1.0):
    """Predictions, and outcomes that come true `factor` times as often."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 18, n)
    return p, (rng.random(n) < np.clip(p * factor, 0, 1)).astype(float), np.arange(n)


def test_true_predictions_lie_on_the_diagonal():
    curve = Reliability.of(*drawn())
    assert len(curve.bins()) == 10
    assert sum(one.low <= one.predicted <= one.high for one in curve.bins()) >= 8
    assert curve.ece < 2 * curve.ece_by_chance < 0.011


def test_predictions_a_fifth_too_high_are_seen_to_be():
    curve = Reliability.of(*drawn(100_000, factor=1 / 1.2))
    assert all(one.observed < one.predicted for one in curve.bins())
    assert curve.ece == pytest.approx(0.1 * (1 - 1 / 1.2), abs=0.003)
    assert curve.ece > 3 * curve.ece_by_chance


def test_the_error_by_chance_is_the_mean_over_many_true_draws():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.3, 3000)
    curves = [Reliability.of(p, (rng.random(3000) < p).astype(float), np.arange(3000)) for _ in range(200)]
    assert np.mean([one.ece for one in curves]) == pytest.approx(curves[0].ece_by_chance, rel=0.1)


def test_equal_predictions_share_a_bin():
    """Split by row order they would make up an error: two thirds are predicted 0.1, and a tenth of them converts."""
    p = np.repeat([0.1, 0.1, 0.4], 1000)
    outcome = np.concatenate([np.repeat([1.0, 0.0], [200, 1800]), np.repeat([1.0, 0.0], [400, 600])])
    curve = Reliability.of(p, outcome, np.arange(3000))
    assert [(one.n, one.predicted, one.observed) for one in curve.bins()] == [
        (2000, pytest.approx(0.1), pytest.approx(0.1)),
        (1000, pytest.approx(0.4), pytest.approx(0.4)),
    ]
    assert curve.ece == pytest.approx(0.0, abs=1e-12)


def test_intervals_hold_in_nineteen_draws_of_twenty():
    rng = np.random.default_rng(2)
    held = []
    for _ in range(300):
        outcome = (rng.random(400) < 0.02).astype(float)
        (only,) = Reliability.of(np.full(400, 0.02), outcome, np.arange(400)).bins()
        held.append(only.low <= 0.02 <= only.high)
    assert np.mean(held) >= 0.93


def test_intervals_are_clustered_by_user():
    """Every decision four times by the same user: nothing new was learned."""
    p, outcome, user = drawn(2000)
    one, four = (Reliability.of(np.tile(p, k), np.tile(outcome, k), np.tile(user, k)).bins() for k in (1, 4))
    for single, copied in zip(one, four, strict=True):
        assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_curves_add_up_over_the_same_edges(seed, cut):
    p, outcome, _ = drawn(200, seed=seed)
    user = np.arange(200) % 60
    edges = equal_edges(p)
    parts = [Reliability.of(p[part], outcome[part], user[part], edges) for part in (slice(0, cut), slice(cut, 200))]
    whole, merged = Reliability.of(p, outcome, user), parts[0] + parts[1]
    for one, other in zip(whole.bins(), merged.bins(), strict=True):
        assert (one.n, one.predicted, one.observed, one.low, one.high) == pytest.approx(
            (other.n, other.predicted, other.observed, other.low, other.high), abs=1e-12
        )
    with pytest.raises(ValueError, match="same edges"):
        whole + Reliability.of(p, outcome, user, np.array([0.0, 1.0]))


@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.5, 1.0]), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 40]),
)
@settings(max_examples=60, deadline=None)
def test_every_figure_is_finite_and_every_interval_has_width(p, seed, users):
    rng = np.random.default_rng(seed)
    p = np.array(p)
    outcome, user = rng.integers(0, 2, len(p)).astype(float), np.arange(len(p)) % users
    curve = Reliability.of(p, outcome, user)
    assert sum(one.n for one in curve.bins()) == len(p)
    for one in curve.bins():
        assert 0 <= one.low <= one.observed <= one.high <= 1
        assert one.low < one.high
    assert 0 <= curve.ece <= 1
    assert math.isfinite(curve.ece_by_chance)
    for cell in calibration_cells(p, outcome, user, np.where(user > 0, "a", "b"), ["x"] * len(p)):
        assert all(value is None or not isinstance(value, float) or math.isfinite(value) for value in vars_of(cell))
        assert cell.ratio_low is None or cell.ratio_low < cell.ratio_high
        assert CalibrationCell.from_json(cell.to_json()) == cell


def vars_of(cell):
    return cell.to_json().values()


def test_calibration_is_told_per_offer_and_market():
    """Offer b in Germany is predicted at twice its rate; all else is true."""
    rng = np.random.default_rng(4)
    n = 40_000
    offer, market = rng.choice(["a", "b"], n), rng.choice(["de", "us"], n)
    p = np.full(n, 0.1)
    truth = np.where((offer == "b") & (market == "de"), 0.05, 0.1)
    cells = calibration_cells(p, (rng.random(n) < truth).astype(float), np.arange(n), offer, market)
    assert [(cell.offer, cell.market) for cell in cells] == [("a", "de"), ("a", "us"), ("b", "de"), ("b", "us")]
    off = cells[2]
    assert off.ratio_low < 2.0 < off.ratio_high
    assert off.ratio_low > 1.5
    assert off.ece == pytest.approx(0.05, abs=0.01)
    for cell in (cells[0], cells[1], cells[3]):
        assert cell.ratio_low < 1.0 < cell.ratio_high
        assert cell.is_shown


def test_the_bins_of_a_cross_fitted_model_do_not_sort_decisions_by_their_fold():
    """Each fold is predicted by the rate of the others: the truest of models, but off by each fold's own luck."""
    rng, over_all, within = np.random.default_rng(5), [], []
    for _ in range(40):
        outcome, fold, user = (rng.random(2000) < 0.2).astype(float), np.arange(2000) % 5, np.arange(2000)
        rates = np.array([outcome[fold != one].mean() for one in range(5)])
        p = rates[fold] + rng.normal(0, 1e-4, 2000)
        over_all.append(Reliability.of(p, outcome, user).ece)
        curve = Reliability.of_folds(p, outcome, user, fold)
        within.append(curve.ece / curve.ece_by_chance)
        assert curve.n == 2000
    assert np.mean(within) == pytest.approx(1.0, abs=0.1)
    assert np.mean(over_all) > 1.1 * np.mean(within) * curve.ece_by_chance


def test_a_ratio_needs_two_hundred_conversions():
    outcome = np.zeros(5000)
    outcome[: LEAST_CONVERSIONS - 1] = 1.0
    (cell,) = calibration_cells(np.full(5000, 0.04), outcome, np.arange(5000), ["a"] * 5000, ["de"] * 5000)
    assert not cell.is_shown
    assert cell.ratio == pytest.approx(0.04 * 5000 / 199)


def test_the_calibration_error_of_a_known_gap():
    p, outcome = np.repeat([0.1, 0.5], 1000), np.concatenate([np.repeat([1, 0], [200, 800]), np.repeat([1, 0], 500)])
    assert Reliability.of(p, outcome, np.arange(2000)).ece == pytest.approx((0.1 + 0.0) / 2)
