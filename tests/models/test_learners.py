import numpy as np
import pytest

from decisioning.errors import UserError
from models.learners import LEARNERS, Sample, fit
from models.predictors import Constant

SMALL = {"num_trees": 30, "min_data_in_leaf": 20}


@pytest.mark.parametrize(("learner", "params"), [("lightgbm", SMALL), ("logistic", {})])
def test_a_learner_finds_who_likes_what(encoding, sample, learner, params):
    predictor = fit(learner, encoding, sample, params, 0)
    paying = predictor.raw(encoding.context({"paying": True, "minutes": 200.0}, "home"), [0, 3])
    free = predictor.raw(encoding.context({"paying": False, "minutes": 200.0}, "home"), [0, 3])
    assert paying[0] > paying[1] + 0.8
    assert free[1] > free[0] + 0.8


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_one_row_and_many_rows_agree(encoding, sample, learner):
    predictor = fit(learner, encoding, sample, SMALL if learner == "lightgbm" else {}, 0)
    offers = [3, 0, 1]
    many = predictor.matrix(sample.contexts[:20], offers)
    for row in range(20):
        one = predictor.raw(sample.contexts[row].astype(float).tolist(), offers)
        np.testing.assert_allclose(one, many[row], rtol=1e-12)


def test_the_same_seed_gives_the_same_model(encoding, sample):
    texts = {fit("lightgbm", encoding, sample, SMALL, 7).text for _ in range(2)}
    assert len(texts) == 1


def test_weights_count(encoding, sample):
    tripled = Sample(sample.contexts, sample.offers, sample.outcome, np.where(sample.outcome == 1, 3.0, 1.0))
    row = sample.contexts[0].astype(float).tolist()
    for learner, params in (("lightgbm", SMALL), ("logistic", {})):
        plain = fit(learner, encoding, sample, params, 0).raw(row, [0])[0]
        assert fit(learner, encoding, tripled, params, 0).raw(row, [0])[0] > plain + 0.5


def test_an_offer_with_too_little_data_stays_at_its_mean(encoding, sample):
    few = sample.take(np.flatnonzero((sample.offers != 3) | (np.arange(len(sample.offers)) < 100)))
    predictor = fit("logistic", encoding, few, {}, 0)
    found = predictor.raw(few.contexts[0].astype(float).tolist(), [0, 3])
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def test_one_class_only_teaches_nothing(encoding, sample):
    never = Sample(sample.contexts, sample.offers, np.zeros(len(sample.offers)), sample.weights)
    assert isinstance(fit("lightgbm", encoding, never, {}, 0), Constant)


def test_unknown_learners_and_parameters_are_named(encoding, sample):
    with pytest.raises(UserError, match="constant, lightgbm, logistic"):
        fit("oracle", encoding, sample, {}, 0)
    with pytest.raises(UserError, match="depth"):
        fit("logistic", encoding, sample, {"depth": 3}, 0)
    with pytest.raises(UserError, match="LightGBM refuses"):
        fit("lightgbm", encoding, sample, {"num_leaves": 1}, 0)
