"""A small encoding, and models of every kind on it."""

import numpy as np
import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import NOTHING
from models.artifact import Means, Model, record_golden
from models.crossing import Traits
from models.encoding import Encoding
from models.fitting.reference import by_lightgbm
from models.learners import LEARNERS, Sample, fit

FEATURES = (
    FeatureSpec("age", FeatureType.INT),
    FeatureSpec("likes", FeatureType.SET, ("jazz", "metal", "pop")),
    FeatureSpec("minutes", FeatureType.FLOAT, default=0.0),
    FeatureSpec("paying", FeatureType.BOOL),
    FeatureSpec("tier", FeatureType.ENUM, ("free", "basic", "premium")),
)
OFFERS = (
    Traits("annual", "plans", {"price": 99.0, "kind": "long"}),
    Traits("monthly", "plans", {"price": 9.9, "kind": "short"}),
    Traits(NOTHING, NOTHING),
    Traits("vinyl", "merch", {"price": 30.0}),
)
SURFACES = ("home", "shelf")
TREES = {"num_trees": 20, "min_data_in_leaf": 20, "num_threads": 1}
PER_OFFER = {**TREES, "min_rows": 100, "min_positives": 10}
SMALL = {
    "lightgbm": TREES,
    "s_learner": TREES,
    "t_learner": PER_OFFER,
    "dr_learner": {**PER_OFFER, "effect_learning_rate": 0.2, "effect_trees": 20, "effect_min_data": 50},
}
"""Parameters for the 2,000 rows of `sample`."""


@pytest.fixture(scope="session")
def encoding():
    return Encoding(FEATURES, SURFACES, OFFERS)


@pytest.fixture(scope="session")
def sample(encoding):
    """2,000 rows in which paying users like the annual plan, and the others vinyl."""
    rng = np.random.default_rng(5)
    n = 2000
    values = [
        {
            "age": int(rng.integers(15, 80)) if rng.random() < 0.9 else None,
            "minutes": float(rng.exponential(300)),
            "paying": bool(rng.random() < 0.5),
            "tier": ("free", "basic", "premium")[rng.integers(3)],
            "likes": frozenset({"jazz"} if rng.random() < 0.4 else ()),
        }
        for _ in range(n)
    ]
    surfaces = [SURFACES[i] for i in rng.integers(0, 2, n)]
    offers = rng.integers(0, len(OFFERS), n)
    paying = np.array([row["paying"] for row in values])
    p = np.where(offers == 0, np.where(paying, 0.6, 0.1), np.where(offers == 3, np.where(paying, 0.2, 0.4), 0.2))
    contexts = np.array([encoding.context(v, s) for v, s in zip(values, surfaces, strict=True)], np.float32)
    return Sample(contexts, offers, (rng.random(n) < p).astype(float), np.ones(n), np.full(n, 0.25))


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def models(encoding, sample):
    """One model per learner, λ = 0.75."""
    means = Means(
        {"home": {"annual": 0.31, "vinyl": 0.29}, "shelf": {}},
        {"annual": 0.3, "monthly": 0.2, "vinyl": 0.3, NOTHING: 0.2},
        {"plans": 0.25, "merch": 0.3, NOTHING: 0.2},
        0.24,
    )
    question = {"age": 33, "paying": True, "tier": "basic", "likes": frozenset({"pop"})}
    return {learner: made(learner, encoding, sample, means, question) for learner in LEARNERS}


def made(learner, encoding, sample, means, question):
    """Its golden rows are LightGBM's own answers."""
    predictor = fit(learner, encoding, sample, SMALL.get(learner, {}), 1)
    model = Model("upsell", 3, learner, "convert", encoding, means, True, 0.75, predictor)
    return record_golden(model, [({}, "home"), (question, "shelf")], by_lightgbm(predictor, encoding))
