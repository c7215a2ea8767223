import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.values.reliability import Reliability
from models.calibration import Isotonic, Platt, calibration_from_json
from models.fitting.calibrating import MOST_KNOTS, fit_calibration, fit_isotonic, fit_platt

KNOTS = Isotonic((-2.0, 0.0, 3.0), (0.1, 0.4, 0.4))


@pytest.mark.parametrize("calibration", [Platt(), Platt(0.7, -0.3), KNOTS])
@given(raw=st.lists(st.floats(-800, 800), min_size=2, max_size=20))
def test_one_by_one_and_together_agree_and_never_fall(calibration, raw):
    raw = sorted(raw)
    one_by_one = calibration.each(raw)
    np.testing.assert_allclose(one_by_one, calibration.probabilities(np.array(raw)), atol=1e-12)
    assert one_by_one == sorted(one_by_one)
    assert all(0 <= p <= 1 for p in one_by_one)


@pytest.mark.parametrize("calibration", [Platt(0.7, -0.3), KNOTS])
def test_it_survives_json(calibration):
    assert calibration_from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize("obj", [{"kind": "magic"}, {"kind": "isotonic", "raw": [1, 0], "p": [0, 1]}])
def test_nonsense_is_refused(obj):
    with pytest.raises(ValueError):
        calibration_from_json(obj)


def test_platt_finds_the_distortion_of_log_odds():
    rng = np.random.default_rng(0)
    raw = rng.normal(-1, 1.5, 40_000)
    outcome = (rng.random(40_000) < 1 / (1 + np.exp(-(0.5 * raw + 0.8)))).astype(float)
    found = fit_platt(raw, outcome)
    assert (found.slope, found.intercept) == pytest.approx((0.5, 0.8), abs=0.05)


@pytest.mark.parametrize(
    ("raw", "outcome"), [([], []), ([1.0, 2.0], [1.0, 1.0]), ([1.0, 2.0, 3.0] * 9, [1.0, 1.0, 0.0] * 9)]
)
def test_platt_changes_nothing_where_data_cannot_say(raw, outcome):
    """No rows, one class, or scores that point the wrong way."""
    assert fit_platt(np.array(raw), np.array(outcome)) == Platt()


def test_isotonic_finds_a_distortion_that_platt_cannot():
    """A step: nothing below zero, the same everywhere above."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 1.5, 40_000)
    outcome = (rng.random(40_000) < np.where(raw < 0, 0.02, 0.3)).astype(float)
    fitted = fit_isotonic(raw, outcome)
    assert fitted.probabilities(np.array([-1.0, 1.0])) == pytest.approx([0.02, 0.3], abs=0.02)
    assert calibration_from_json(fitted.to_json()) == fitted
    assert len(fitted.raw) <= MOST_KNOTS
    errors = {
        kind: Reliability.of(fit_calibration(kind, raw, outcome).probabilities(raw), outcome, np.arange(len(raw))).ece
        for kind in ("isotonic", "platt")
    }
    assert errors["isotonic"] < 0.005 < 0.02 < errors["platt"]


@pytest.mark.parametrize(("raw", "outcome"), [([], []), ([1.0, 2.0], [1.0, 1.0]), ([5.0] * 9, [0.0, 1.0, 1.0] * 3)])
def test_isotonic_changes_nothing_where_data_cannot_say(raw, outcome):
    assert fit_isotonic(np.array(raw), np.array(outcome)) == Platt()


def test_scores_that_point_the_wrong_way_become_one_rate():
    """Non-decreasing, the best is the mean: no order is better than a wrong one."""
    fitted = fit_isotonic(np.array([1.0, 2.0, 3.0] * 9), np.array([1.0, 1.0, 0.0] * 9))
    assert fitted.each([0.0, 2.0, 9.0]) == pytest.approx([2 / 3] * 3)


def test_rows_of_which_the_learner_says_nothing_are_left_out():
    raw, outcome = np.array([1.0, np.nan, 2.0, 3.0] * 50), np.array([0.0, 1.0, 1.0, 1.0] * 50)
    assert fit_calibration("platt", raw, outcome) == fit_platt(raw[~np.isnan(raw)], outcome[~np.isnan(raw)])
