"""S-learner: one model in which what was shown is one more column (Künzel and others, PNAS 2019).

It differs from `lightgbm` in what it knows of an offer: its name alone, and NOTHING is the row without any. So an
effect is what changes when one indicator goes from 0 to 1, and nothing is carried over from offers that are alike.
"""

from collections.abc import Mapping

from models.encoding import Encoding
from models.fitting.lightgbm import fit_lightgbm
from models.fitting.sample import Params, Sample
from models.predictors import Predictor


def fit_s_learner(
    encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
) -> Predictor:
    return fit_lightgbm(encoding, sample, params, seed, monotone, names_only=True)
