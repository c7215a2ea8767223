"""One LightGBM model over user × offer columns, so that a new offer has a score on its first day."""

from collections.abc import Mapping

import numpy as np

from models.encoding import Encoding
from models.fitting.boosting import boost, constraints, offer_block
from models.fitting.sample import Params, Sample
from models.predictors import Constant, Predictor, Trees


def fit_lightgbm(
    encoding: Encoding,
    sample: Sample,
    params: Params,
    seed: int,
    monotone: Mapping[str, int],
    *,
    names_only: bool = False,
) -> Predictor:
    if len(np.unique(sample.outcome)) < 2:
        return Constant()
    block, rules = offer_block(encoding, names_only=names_only), constraints(encoding, monotone)
    return Trees(boost(sample, block, params, seed, constraints=rules), encoding)
