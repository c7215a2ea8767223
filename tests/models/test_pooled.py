"""The learner whose weights offers share: what is shared, what is not, and that its loss is the one it says."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from decisioning.catalog import FeatureSpec, FeatureType
from models.crossing import Traits
from models.encoding import Encoding
from models.fitting.pooled import _Ridge, _standard, fit_pooled, offer_parts
from models.fitting.sample import Sample
from models.learners import LEARNERS

DEFAULTS = LEARNERS["pooled"].defaults
OFFERS = (
    Traits("ticket_a", "live", {"kind": "ticket", "price": 10.0}),
    Traits("ticket_b", "live", {"kind": "ticket", "price": 12.0}),
    Traits("vinyl_a", "music", {"kind": "vinyl", "price": 30.0}),
    Traits("vinyl_b", "music", {"kind": "vinyl"}),
)
ENCODING = Encoding((FeatureSpec("concerts", FeatureType.FLOAT),), ("home",), OFFERS)


def sample(n=6_000, seed=0, shown=(0, 2)) -> Sample:
    """Who goes to concerts buys tickets, and vinyl the less for it."""
    rng = np.random.default_rng(seed)
    concerts, offers = rng.standard_normal(n), rng.choice(shown, n)
    slope = np.where(offers < 2, 1.0, -1.0)
    outcome = rng.random(n) < 1 / (1 + np.exp(2.0 - slope * concerts))
    contexts = np.column_stack([concerts, np.ones(n)]).astype(np.float32)
    return Sample(contexts, offers, outcome.astype(float), np.ones(n))


def slopes(predictor) -> np.ndarray:
    low, high = predictor.matrix(np.array([[-1.0, 1.0], [1.0, 1.0]], np.float32), range(4))
    return (high - low) / 2


def test_an_offer_never_shown_leans_on_its_likes():
    found = slopes(fit_pooled(ENCODING, sample(), DEFAULTS, 0, {}))
    assert found[0] > 0.8
    assert 0.4 < found[1] <= found[0]
    assert found[2] < -0.8
    assert found[2] <= found[3] < -0.2


def test_data_of_its_own_outweighs_its_likes():
    """vinyl_b is liked by those whom vinyl_a is not for; it takes data to learn it, and data is enough."""
    rng = np.random.default_rng(1)
    data = sample(20_000, shown=(0, 2, 3))
    odd = data.offers == 3
    chance = 1 / (1 + np.exp(2.0 - data.contexts[:, 0]))
    data = Sample(data.contexts, data.offers, np.where(odd, rng.random(data.n) < chance, data.outcome), data.weights)
    found = slopes(fit_pooled(ENCODING, data, DEFAULTS, 0, {}))
    assert found[3] > 0.5
    assert found[2] < -0.5


def test_the_gradient_is_that_of_the_loss():
    data = sample(200)
    rows = _standard(data.contexts, np.zeros(2), np.array([1.0, np.inf])).astype(float)
    ridge = _Ridge(data, rows, offer_parts(ENCODING, 0.03, 0.01), 0.03)
    theta = np.random.default_rng(0).standard_normal(ridge.size)
    assert check_grad(lambda t: ridge.loss(t)[0], lambda t: ridge.loss(t)[1], theta) < 1e-3


def test_a_weighted_row_counts_as_often_as_its_weight_says():
    data = sample(1_000)
    twice = Sample(
        *(np.concatenate([column, column]) for column in (data.contexts, data.offers, data.outcome, data.weights))
    )
    heavy = Sample(data.contexts, data.offers, data.outcome, 2 * data.weights)
    one, two = (slopes(fit_pooled(ENCODING, rows, {**DEFAULTS, "iterations": 500}, 0, {})) for rows in (twice, heavy))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_missing_attribute_is_an_ordinary_one():
    parts = offer_parts(ENCODING, 1.0, 1.0)
    price = 1 + [name for name in ENCODING.offer_columns if not name.startswith("offer=")].index("attribute.price")
    assert parts[3, price] == 0.0
    assert parts[:3, price].mean() == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(parts).all()
