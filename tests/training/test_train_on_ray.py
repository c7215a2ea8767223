"""Training on Ray: the whole run, from the tables to the registered version."""

import pytest

from stores.registry import Registry
from training.evaluate import evaluate
from training.train import train

pytestmark = pytest.mark.heavy  # what is the matter with Ray shows in tests/scaling


def differing(one, other):
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_folds_fitted_side_by_side_on_ray_give_the_same_version_to_the_last_digit(home, catalog, ray_engine):
    here = train(home, catalog, config="logistic", folds=3)
    there = train(home, catalog, config="logistic", folds=3, engine=ray_engine)
    assert there.metrics["ranks"] == 1
    assert differing(there.metrics, here.metrics) == {"version"}
    registry = Registry(home.mlflow_uri, home.artifacts)
    models = [registry.files("passes", one.version)["model.json"] for one in (here, there)]
    assert models[0].replace(b'"version": 1', b'"version": 2') == models[1]


def test_an_evaluation_on_ray_gives_the_same_table(trained_home, catalog, ray_engine):
    here = evaluate(trained_home, catalog, version=1, folds=3)
    there = evaluate(trained_home, catalog, version=1, folds=3, engine=ray_engine)
    assert there.metrics == here.metrics


def test_ranks_that_train_together_register_a_version_as_good_as_one_machines(home, catalog, ray_engine):
    here = train(home, catalog, config="lightgbm", folds=3)
    there = train(home, catalog, config="lightgbm", folds=3, engine=ray_engine)
    assert (there.metrics["ranks"], here.metrics["ranks"]) == (2, 1)
    assert there.metrics["log_loss"] == pytest.approx(here.metrics["log_loss"], abs=0.01)
    assert min(there.metrics["shrinkage"], here.metrics["shrinkage"]) > 0  # a gain is shown by both
