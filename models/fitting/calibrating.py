"""Fitting the map from held-out log-odds to probabilities: Platt's two numbers, or isotonic steps."""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.isotonic import IsotonicRegression

from models.calibration import Calibration, Isotonic, Platt

MOST_KNOTS = 200
"""An isotonic fit on a million rows has thousands of steps; blocks of equal count say the same."""


def fit_calibration(kind: str, raw: np.ndarray, outcome: np.ndarray) -> Calibration:
    """By name, one of CALIBRATIONS. `raw` (n,) may hold NaN, where the learner says nothing."""
    known = ~np.isnan(raw)
    return CALIBRATIONS[kind](raw[known].astype(float), outcome[known].astype(float))


def fit_platt(raw: np.ndarray, outcome: np.ndarray) -> Platt:
    """A logistic regression of the outcome on log-odds (Platt 1999), by Newton steps.

    No change where the data can't say: no rows, one class only, or a slope that isn't positive.
    """
    if not _says_something(raw, outcome):
        return Platt()
    design = np.column_stack([raw, np.ones_like(raw)])
    theta = np.array([1.0, 0.0])
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -30, 30)))
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (outcome - p))
        theta = theta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    slope, intercept = (float(value) for value in theta)
    return Platt(slope, intercept) if slope > 0 and np.isfinite(theta).all() else Platt()


def fit_isotonic(raw: np.ndarray, outcome: np.ndarray) -> Calibration:
    """The non-decreasing rates that fit best (Zadrozny and Elkan, KDD 2002), over at most MOST_KNOTS blocks.

    Where the data can't say, as for `fit_platt`.
    """
    if not _says_something(raw, outcome):
        return Platt()
    order = np.argsort(raw, kind="stable")
    blocks = np.array_split(order, min(MOST_KNOTS, len(order)))
    x = np.array([raw[block].mean() for block in blocks])
    rate = np.array([outcome[block].mean() for block in blocks])
    fitted = IsotonicRegression().fit(x, rate, sample_weight=[len(block) for block in blocks])
    knots, first = np.unique(fitted.X_thresholds_, return_index=True)
    if len(knots) < 2:
        return Platt()
    return Isotonic(tuple(knots.tolist()), tuple(np.clip(fitted.y_thresholds_[first], 0.0, 1.0).tolist()))


def _says_something(raw: np.ndarray, outcome: np.ndarray) -> bool:
    return len(raw) > 0 and len(np.unique(outcome)) > 1 and raw.std() >= 1e-9


CALIBRATIONS: Mapping[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "isotonic": fit_isotonic,
    "platt": fit_platt,
}
