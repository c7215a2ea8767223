"""One logistic regression for all offers, whose weights are shared as far as the offers are alike.

An offer's weights are a sum: what all offers have in common, its group's part, one for each of its attributes, and its
own. A ridge draws each part to zero, its own the hardest. So an offer with little data leans on its likes, and one
without any has a score on its first day (regularised multi-task learning: Evgeniou and Pontil, KDD 2004).
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from models.encoding import Encoding
from models.fitting.logistic import moments
from models.fitting.sample import Params, Sample
from models.predictors import Constant, Linear, Predictor

DEFAULTS: Params = {"C_shared": 0.03, "C_own": 0.01, "iterations": 60}
"""Prior variances of a weight, per standard deviation of its column: of each shared part, and of the offer's own."""
INTERCEPT = 1.0
"""Prior variance of the intercepts' parts: how often offers convert differs far more than for whom they do."""


def fit_pooled(encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]) -> Predictor:
    """On standardised columns, where what is missing is at the mean; by L-BFGS from the mean rate."""
    if len(np.unique(sample.outcome)) < 2:
        return Constant()
    fill, scale = moments(sample.contexts)
    parts = offer_parts(encoding, float(params["C_shared"]), float(params["C_own"]))
    ridge = _Ridge(sample, _standard(sample.contexts, fill, scale), parts, float(params["C_shared"]))
    size, options = ridge.size, {"maxiter": int(params["iterations"])}
    # Products of this size gain nothing from threads, and lose much where cores are shared.
    with threadpool_limits(1):
        found = minimize(ridge.loss, np.zeros(size), jac=True, method="L-BFGS-B", options=options)
    weights = ridge.weights(found.x)
    plain = weights[:, :-1] / scale
    intercepts = ridge.start + weights[:, -1] - plain @ fill
    return Linear(tuple(fill.tolist()), tuple(map(tuple, plain.tolist())), tuple(intercepts.tolist()))


class _Ridge:
    """−log likelihood + ½|θ|². Parts and columns are scaled such that one ridge is right for all of θ."""

    def __init__(self, sample: Sample, rows: np.ndarray, parts: np.ndarray, shared: float) -> None:
        """`rows` (n, columns + 1) standardised, the last column 1."""
        order = np.argsort(sample.offers, kind="stable")
        self._rows, self._parts = rows[order], parts
        self._outcome = sample.outcome[order].astype(float)
        self._weight = sample.weights[order].astype(float)
        self._blocks = [*pairwise(np.searchsorted(sample.offers[order], np.arange(len(parts) + 1)).tolist())]
        self._scales = np.append(np.ones(rows.shape[1] - 1), np.sqrt(INTERCEPT / shared))
        rate = np.average(self._outcome, weights=self._weight)
        self.start = float(np.log(rate / (1 - rate)))
        self.size = parts.shape[1] * rows.shape[1]

    def weights(self, theta: np.ndarray) -> np.ndarray:
        """(offers, columns + 1)"""
        return self._parts @ theta.reshape(self._parts.shape[1], -1) * self._scales

    def loss(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss, and its gradient."""
        weights = self.weights(theta).astype(self._rows.dtype)
        log_odds = np.concatenate([self._rows[a:b] @ w for (a, b), w in zip(self._blocks, weights, strict=True)])
        log_odds = log_odds.astype(float) + self.start
        miss = self._weight * (1.0 / (1.0 + np.exp(-log_odds)) - self._outcome)
        small = miss.astype(self._rows.dtype)
        pull = np.stack([small[a:b] @ self._rows[a:b] for a, b in self._blocks]).astype(float)
        loss = self._weight @ (np.logaddexp(0.0, log_odds) - self._outcome * log_odds) + 0.5 * theta @ theta
        return float(loss), (self._parts.T @ (pull * self._scales)).ravel() + theta


def _standard(contexts: np.ndarray, fill: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, columns + 1) float32, the last column 1."""
    out = np.ones((len(contexts), contexts.shape[1] + 1), np.float32)
    for column in range(contexts.shape[1]):
        values = contexts[:, column]
        out[:, column] = np.where(np.isnan(values), 0.0, (values - fill[column]) / scale[column])
    return out


def offer_parts(encoding: Encoding, shared: float, own: float) -> np.ndarray:
    """(offers, parts) how much an offer has of each part, times the part's prior standard deviation.

    The parts: one that all have; groups and attributes (numbers standardised, 0 where an offer has none); each offer.
    """
    columns = dict(zip(encoding.offer_columns, encoding.offer_matrix.T, strict=True))
    alike = [np.ones(len(encoding.offers))]
    for name, column in columns.items():
        if not name.startswith("offer="):
            alike.append(np.nan_to_num(column) if "=" in name else _standardised(column))
    mine = [column for name, column in columns.items() if name.startswith("offer=")]
    return np.column_stack([*(np.sqrt(shared) * part for part in alike), *(np.sqrt(own) * part for part in mine)])


def _standardised(column: np.ndarray) -> np.ndarray:
    known = ~np.isnan(column)
    if not known.any() or column[known].std() < 1e-9:
        return np.zeros(len(column))
    return np.where(known, (column - column[known].mean()) / column[known].std(), 0.0)
