"""One ridge logistic regression per offer: hard to beat where there are few offers and many decisions for each."""

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression

from models.encoding import Encoding
from models.fitting.sample import Params, Sample, enough
from models.predictors import Linear, Predictor

DEFAULTS: Params = {"C": 0.1, "min_rows": 200, "min_positives": 10}


def fit_logistic(
    encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
) -> Predictor:
    """On standardised columns; offers with too little data stay at their mean.

    Weights are stored for the columns as they are, so that serving needs no scaler.
    """
    fill, scale = moments(sample.contexts)
    weights: list[tuple[float, ...] | None] = []
    intercepts = []
    for offer in range(len(encoding.offers)):
        rows = sample.offers == offer
        if not enough(sample, rows, params):
            weights.append(None)
            intercepts.append(0.0)
            continue
        contexts = sample.contexts[rows].astype(float)
        standard = (np.where(np.isnan(contexts), fill, contexts) - fill) / scale
        model = LogisticRegression(C=float(params["C"]), max_iter=200)
        model.fit(standard, sample.outcome[rows], sample_weight=sample.weights[rows])
        plain = model.coef_[0] / scale
        weights.append(tuple(plain.tolist()))
        intercepts.append(float(model.intercept_[0] - plain @ fill))
    return Linear(tuple(fill.tolist()), tuple(weights), tuple(intercepts))


def moments(contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(columns,) means of what is known, and standard deviations with the mean filled in; column by column, to be
    small in memory. A constant column says nothing: its deviation is infinite."""
    fill, scale = np.zeros(contexts.shape[1]), np.full(contexts.shape[1], np.inf)
    for column in range(contexts.shape[1]):
        values = contexts[:, column].astype(float)
        known = values[~np.isnan(values)]
        if len(known) == 0:
            continue
        fill[column] = known.mean()
        deviation = float(np.sqrt(((known - fill[column]) ** 2).sum() / len(values)))
        if deviation >= 1e-9:
            scale[column] = deviation
    return fill, scale
