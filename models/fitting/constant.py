"""Nothing personal: every offer stays at its mean. What every other learner must beat."""

from collections.abc import Mapping

from models.encoding import Encoding
from models.fitting.sample import Params, Sample
from models.predictors import Constant, Predictor

DEFAULTS: Params = {}


def fit_constant(
    encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
) -> Predictor:
    return Constant()
