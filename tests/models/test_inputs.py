import lightgbm
import pytest

from models.encoding import feature_columns
from models.inputs import reading
from models.learners import LEARNERS


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_model_says_what_it_takes_and_no_more(models, learner):
    model = models[learner]
    for spec in model.encoding.features:
        assert reading(model, spec.name).model == "upsell/3"
    assert reading(model, "shoe_size") is None


@pytest.mark.parametrize("learner", ["lightgbm", "t_learner", "dr_learner"])
def test_splits_are_counted_as_lightgbm_counts_them(models, learner):
    model = models[learner]
    boosters = [lightgbm.Booster(model_str=text) for text in model.predictor.texts.values()]
    counted = [booster.feature_importance("split") for booster in boosters]
    at = 0
    for spec in model.encoding.features:
        width = len(feature_columns(spec))
        found = reading(model, spec.name)
        assert found.splits == sum(each[at : at + width].sum() for each in counted), spec.name
        assert found.of == sum(each.sum() for each in counted)
        at += width
    assert any(reading(model, spec.name).splits for spec in model.encoding.features)


@pytest.mark.parametrize("learner", ["constant", "logistic"])
def test_a_model_without_trees_has_no_splits(models, learner):
    for spec in models[learner].encoding.features:
        assert (reading(models[learner], spec.name).splits, reading(models[learner], spec.name).of) == (0, 0)
