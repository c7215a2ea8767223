"""DR-learner: what an offer changes, regressed on who it is shown to (Kennedy, Electronic Journal of Statistics 2023).

With μ̂ a cross-fitted outcome model and p the logged probability of what was shown, each decision on which both offer a
and the baseline b could have been shown has the doubly robust pseudo-effect

    ψ_a = μ̂(x, a) − μ̂(x, b) + (1{A = a} − 1{A = b}) / p · (y − μ̂(x, A))

whose mean given x is the effect of a over b, even where μ̂ is wrong; a regression on x gives τ̂_a. What serves is
p(x, b) = μ̂(x, b) and p(x, a) = μ̂(x, b) + τ̂_a(x): personal only as far as the *effect* is. The baseline is NOTHING where
it was logged, so that τ̂ is the uplift; else the best single offer, and τ̂ is the contrast that decides whom to give
another one instead.
"""

from collections.abc import Mapping

import numpy as np

from decisioning.errors import UserError
from models.encoding import Encoding
from models.fitting import boosting
from models.fitting.boosting import boost, offer_block
from models.fitting.sample import Params, Sample, baseline, enough, known_probabilities
from models.predictors import Constant, Contrast, Forests, Predictor, Trees

OWN: Params = {
    "effect_trees": 50,
    "effect_leaves": 4,
    "effect_min_data": 1000,
    "effect_learning_rate": 0.05,
    "clip": 0.01,
    "parts": 2,
    "min_rows": 1000,
    "min_positives": 50,
}
"""`clip`: the least probability that a decision is weighted with. `parts`: how many μ̂ are cross-fitted in. Effects are
small beside the noise of ψ, so their trees are held shorter than those of μ̂."""
DEFAULTS: Params = {**boosting.DEFAULTS, **OWN}


def fit_dr_learner(
    encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
) -> Predictor:
    """Offers with too little data, alone or beside the baseline, stay at their mean."""
    base = baseline(encoding, sample)
    arms = [o for o in range(len(encoding.offers)) if o != base and enough(sample, sample.offers == o, params)]
    if not arms or not enough(sample, sample.offers == base, params):
        return Constant()
    nuisance = {key: value for key, value in params.items() if key not in OWN}
    rates = _cross_fitted(encoding, sample, [base, *arms], nuisance, int(params["parts"]), seed)
    texts = {}
    for place, arm in enumerate(arms, start=1):
        both = sample.could_show(arm) & sample.could_show(base)
        if all(enough(sample, both & (sample.offers == one), params) for one in (arm, base)):
            part = sample.take(both)
            effect = pseudo_effect(part, base, arm, rates[both, 0], rates[both, place], float(params["clip"]))
            texts[arm] = boost(part, None, _of_effects(params), seed, outcome=effect, objective="regression")
    if not texts:
        return Constant()
    outcome_model = boost(sample, offer_block(encoding), nuisance, seed)
    return Contrast(base, Trees(outcome_model, encoding), Forests(texts, encoding))


def pseudo_effect(
    sample: Sample, base: int, arm: int, rate_base: np.ndarray, rate_arm: np.ndarray, clip: float
) -> np.ndarray:
    """(n,) ψ of showing `arm` instead of `base`. Positives that stand for some unseen yet count as many."""
    sign = (sample.offers == arm).astype(float) - (sample.offers == base)
    seen = np.where(sample.offers == arm, rate_arm, rate_base)
    residual = sample.outcome * sample.weights - seen
    return rate_arm - rate_base + sign / np.maximum(known_probabilities(sample), clip) * residual


def _cross_fitted(
    encoding: Encoding, sample: Sample, offers: list[int], params: Params, parts: int, seed: int
) -> np.ndarray:
    """(n, len(offers)) float32 μ̂(x, offer), each row's from models that were not fitted on it."""
    if parts < 2:
        raise UserError(f"The dr_learner can't be cross-fitted in {parts} part: give it 2 `parts` or more.")
    part = np.random.default_rng(seed).permutation(sample.n) % parts
    out = np.empty((sample.n, len(offers)), np.float32)
    for number in range(parts):
        rest = sample.take(part != number)
        if len(np.unique(rest.outcome)) < 2:
            out[part == number] = rest.outcome.mean()
            continue
        text = boost(rest, offer_block(encoding), params, seed)
        raw = Trees(text, encoding).matrix(sample.contexts[part == number], offers)
        out[part == number] = 1.0 / (1.0 + np.exp(-raw))
    return out


def _of_effects(params: Params) -> Params:
    return {
        **{key: value for key, value in params.items() if key not in OWN},
        "num_trees": params["effect_trees"],
        "num_leaves": params["effect_leaves"],
        "min_data_in_leaf": params["effect_min_data"],
        "learning_rate": params["effect_learning_rate"],
    }
