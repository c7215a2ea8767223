"""T-learner: a model of its own for each offer, and for NOTHING (Künzel and others, PNAS 2019)."""

from collections.abc import Mapping

from models.encoding import Encoding
from models.fitting import boosting
from models.fitting.boosting import boost, constraints
from models.fitting.sample import Params, Sample, enough
from models.predictors import Constant, Forests, Predictor

DEFAULTS: Params = {**boosting.DEFAULTS, "min_rows": 1000, "min_positives": 50}


def fit_t_learner(
    encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
) -> Predictor:
    """Offers with fewer than `min_rows` decisions, or `min_positives` of either class, stay at their mean."""
    rules = constraints(encoding, monotone, offers=False)
    settings = {key: value for key, value in params.items() if key not in ("min_rows", "min_positives")}
    texts = {}
    for offer in range(len(encoding.offers)):
        rows = sample.offers == offer
        if enough(sample, rows, params):
            texts[offer] = boost(sample.take(rows), None, settings, seed, constraints=rules)
    return Forests(texts, encoding) if texts else Constant()
