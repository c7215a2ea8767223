"""Learners by name. Each fits p(conversion | context, offer) and gives a Predictor that serves without it.

A new one is a function with the signature of `Fit`, under a name in LEARNERS, with a test and a config.
Offline only: importing this pulls LightGBM and scikit-learn in.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Read when OpenMP loads. Threads that spin while they wait made a fit eight times slower on cores shared with others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression

from decisioning.errors import UserError
from models.encoding import Encoding
from models.predictors import Constant, Linear, Predictor, Trees

LIGHTGBM: Mapping[str, float | int | str | bool] = {
    # Measured on real trials: anything freer than this did worse than the best single offer.
    "num_trees": 80,
    "num_leaves": 7,
    "min_data_in_leaf": 200,
    "learning_rate": 0.1,
    "lambda_l2": 1.0,
    "num_threads": 2,
}
LOGISTIC: Mapping[str, float | int] = {"C": 0.1, "min_rows": 200, "min_positives": 10}


@dataclass(frozen=True, slots=True)
class Sample:
    """Training rows: `contexts` (n, context columns) float32, and (n,) arrays of the same length."""

    contexts: np.ndarray
    offers: np.ndarray
    """Rows of the encoding's offer matrix."""
    outcome: np.ndarray
    """0 or 1."""
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> "Sample":
        return Sample(self.contexts[rows], self.offers[rows], self.outcome[rows], self.weights[rows])


Params = Mapping[str, float | int | str | bool]
Fit = Callable[[Encoding, Sample, Params, int], Predictor]


def fit(learner: str, encoding: Encoding, sample: Sample, params: Params, seed: int) -> Predictor:
    """Fit by name. `params` override the learner's defaults. Raises UserError for a name or parameter unknown."""
    if learner not in LEARNERS:
        raise UserError(f"There is no learner {learner!r}. Choose one of: {', '.join(sorted(LEARNERS))}.")
    function, defaults = LEARNERS[learner]
    if defaults is LOGISTIC and set(params) - set(defaults):
        unknown = ", ".join(sorted(set(params) - set(defaults)))
        raise UserError(f"The learner {learner} has no parameter {unknown}. It has: {', '.join(sorted(defaults))}.")
    return function(encoding, sample, {**defaults, **params}, seed)


def fit_constant(encoding: Encoding, sample: Sample, params: Params, seed: int) -> Predictor:
    """Nothing personal: each offer's mean."""
    return Constant()


def fit_lightgbm(encoding: Encoding, sample: Sample, params: Params, seed: int) -> Predictor:
    """One model over context × offer columns, so that a new offer has a score on its first day."""
    if len(np.unique(sample.outcome)) < 2:
        return Constant()
    matrix = np.hstack([sample.contexts, encoding.offer_matrix[sample.offers].astype(np.float32)])
    settings = {
        "objective": "binary",
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbosity": -1,
        **{key: value for key, value in params.items() if key != "num_trees"},
    }
    data = lightgbm.Dataset(matrix, sample.outcome, weight=sample.weights, params={"verbosity": -1})
    try:
        booster = lightgbm.train(settings, data, num_boost_round=int(params["num_trees"]))
    except lightgbm.basic.LightGBMError as error:
        raise UserError(f"LightGBM refuses these parameters: {error}. Check the training config.") from None
    return Trees(booster.model_to_string(), encoding)


def fit_logistic(encoding: Encoding, sample: Sample, params: Params, seed: int) -> Predictor:
    """One ridge logistic regression per offer on standardised columns; offers with too little data stay at their mean.

    Weights are stored for the columns as they are, so that serving needs no scaler.
    """
    contexts = sample.contexts.astype(float)
    known = ~np.isnan(contexts)
    totals = known.sum(axis=0)
    fill = np.where(known, contexts, 0.0).sum(axis=0) / np.maximum(totals, 1)
    contexts = np.where(known, contexts, fill)
    scale = contexts.std(axis=0)
    scale[scale < 1e-9] = np.inf  # a constant column says nothing
    weights: list[tuple[float, ...] | None] = []
    intercepts = []
    for offer in range(len(encoding.offers)):
        rows = sample.offers == offer
        positives = sample.outcome[rows].sum()
        few = min(positives, rows.sum() - positives) < params["min_positives"]
        if few or rows.sum() < params["min_rows"]:
            weights.append(None)
            intercepts.append(0.0)
            continue
        model = LogisticRegression(C=float(params["C"]), max_iter=200)
        model.fit((contexts[rows] - fill) / scale, sample.outcome[rows], sample_weight=sample.weights[rows])
        plain = model.coef_[0] / scale
        weights.append(tuple(plain.tolist()))
        intercepts.append(float(model.intercept_[0] - plain @ fill))
    return Linear(tuple(fill.tolist()), tuple(weights), tuple(intercepts))


LEARNERS: Mapping[str, tuple[Fit, Params]] = {
    "constant": (fit_constant, {}),
    "lightgbm": (fit_lightgbm, LIGHTGBM),
    "logistic": (fit_logistic, LOGISTIC),
}


def fit_platt(raw: np.ndarray, outcome: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) of a logistic regression of the outcome on held-out log-odds (Platt 1999), by Newton steps.

    (1, 0), no change, where the data can't say: no rows, one class only, or a slope that isn't positive.
    """
    known = ~np.isnan(raw)
    x, y = raw[known], outcome[known]
    if len(x) == 0 or len(np.unique(y)) < 2 or x.std() < 1e-9:
        return 1.0, 0.0
    design = np.column_stack([x, np.ones_like(x)])
    theta = np.array([1.0, 0.0])
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -30, 30)))
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (y - p))
        theta = theta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    slope, intercept = (float(value) for value in theta)
    return (slope, intercept) if slope > 0 and np.isfinite(theta).all() else (1.0, 0.0)
