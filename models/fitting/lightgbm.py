"""One LightGBM model over user × offer columns, so that a new offer has a score on its first day."""

from collections.abc import Mapping

import numpy as np

from models.encoding import Encoding
from models.fitting.boosting import boost, constraints, design
from models.fitting.sample import Params, Sample
from models.predictors import Constant, Predictor, Trees


def fit_lightgbm(
    encoding: Encoding,
    sample: Sample,
    params: Params,
    seed: int,
    monotone: Mapping[str, int],
    *,
    arms_only: bool = False,
) -> Predictor:
    if len(np.unique(sample.outcome)) < 2:
        return Constant()
    matrix = design(encoding, sample.contexts, sample.offers, arms_only=arms_only)
    rules = constraints(encoding, monotone)
    return Trees(boost(matrix, sample.outcome, sample.weights, params, seed, constraints=rules), encoding)
