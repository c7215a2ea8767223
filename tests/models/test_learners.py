import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from decisioning.errors import UserError
from models.learners import LEARNERS, fit

SMALL = {"num_trees": 30, "min_data_in_leaf": 20}


@pytest.mark.parametrize("learner", sorted(set(LEARNERS) - {"constant"}))
def test_a_learner_finds_who_likes_what(encoding, sample, small, learner):
    predictor = fit(learner, encoding, sample, small.get(learner, {}), 0)
    paying = predictor.raw(encoding.context({"paying": True, "minutes": 200.0}, "home"), [0, 3])
    free = predictor.raw(encoding.context({"paying": False, "minutes": 200.0}, "home"), [0, 3])
    assert paying[0] > paying[1] + 0.8
    assert free[1] > free[0] + 0.8


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_one_row_and_many_rows_agree(encoding, sample, small, learner):
    predictor = fit(learner, encoding, sample, small.get(learner, {}), 0)
    offers = [3, 0, 1]
    many = predictor.matrix(sample.contexts[:20], offers)
    for row in range(20):
        one = predictor.raw(sample.contexts[row].astype(float).tolist(), offers)
        np.testing.assert_allclose(one, many[row], rtol=1e-12)


@pytest.mark.parametrize("learner", ["dr_learner", "lightgbm", "s_learner", "t_learner"])
def test_the_same_seed_gives_the_same_model(encoding, sample, small, learner):
    one, two = (fit(learner, encoding, sample, small[learner], 7) for _ in range(2))
    assert one.texts == two.texts


def test_weights_count(encoding, sample, small):
    tripled = replace(sample, weights=np.where(sample.outcome == 1, 3.0, 1.0))
    row = sample.contexts[0].astype(float).tolist()
    for learner in sorted(set(LEARNERS) - {"constant"}):
        plain = fit(learner, encoding, sample, small.get(learner, {}), 0).raw(row, [0])[0]
        assert fit(learner, encoding, tripled, small.get(learner, {}), 0).raw(row, [0])[0] > plain + 0.5


@pytest.mark.parametrize("learner", ["dr_learner", "logistic", "t_learner"])
def test_an_offer_with_too_little_data_stays_at_its_mean(encoding, sample, small, learner):
    few = sample.take((sample.offers != 3) | (np.arange(sample.n) < 100))
    predictor = fit(learner, encoding, few, small.get(learner, {}), 0)
    found = predictor.raw(few.contexts[0].astype(float).tolist(), [0, 3])
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


@pytest.mark.parametrize("learner", sorted(LEARNERS))
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_class_only_teaches_nothing(encoding, sample, small, learner, outcome):
    same = replace(sample, outcome=np.full(sample.n, outcome))
    predictor = fit(learner, encoding, same, small.get(learner, {}), 0)
    assert np.isnan(predictor.matrix(sample.contexts[:5], range(4))).all()


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_an_offer_never_shown_has_a_finite_score_or_none(encoding, sample, small, learner):
    rest = sample.take(sample.offers != 1)
    found = fit(learner, encoding, rest, small.get(learner, {}), 0).matrix(sample.contexts[:5], [1])
    assert np.isfinite(found).all() == (learner in ("lightgbm", "pooled", "s_learner"))
    assert np.isnan(found).all() != (learner in ("lightgbm", "pooled", "s_learner"))


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_a_column_that_never_changes_or_is_never_known_changes_nothing(encoding, sample, small, learner):
    contexts = sample.contexts.copy()
    age, minutes = (encoding.context_columns.index(name) for name in ("age", "minutes"))
    contexts[:, age], contexts[:, minutes] = 5.0, np.nan
    predictor = fit(learner, encoding, replace(sample, table=contexts), small.get(learner, {}), 0)
    row = contexts[:1].copy()
    before = predictor.matrix(row, [0, 3])
    row[:, age] = 77.0
    np.testing.assert_array_equal(before, predictor.matrix(row, [0, 3]))
    assert np.isfinite(before).all() == (learner != "constant")


def test_the_s_learner_knows_an_offer_by_its_name_alone(encoding, sample, small):
    """An offer that nobody was shown looks like NOTHING to it, whatever its group and attributes."""
    rest = sample.take(sample.offers != 1)
    found = {name: fit(name, encoding, rest, small[name], 0) for name in ("s_learner", "lightgbm")}
    found = {name: predictor.matrix(sample.contexts[:50], [1, 2]) for name, predictor in found.items()}
    np.testing.assert_array_equal(found["s_learner"][:, 0], found["s_learner"][:, 1])
    assert (found["lightgbm"][:, 0] != found["lightgbm"][:, 1]).any()


@pytest.mark.parametrize("learner", ["lightgbm", "s_learner", "t_learner"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_declared_direction_holds_everywhere(encoding, sample, small, learner, sign):
    """Age says nothing of the truth, so without the constraint some steps go either way."""
    params = {**small[learner], "min_data_in_leaf": 10}
    contexts = np.repeat(sample.contexts[:40], 66, axis=0)
    contexts[:, encoding.context_columns.index("age")] = np.tile(np.arange(15, 81), 40)

    def steps(monotone):
        found = fit(learner, encoding, sample, params, 0, monotone).matrix(contexts, [0, 3]).reshape(40, 66, 2)
        return np.diff(found, axis=1) * sign

    assert (steps({}) < 0).any()
    assert (steps({"age": sign}) >= 0).all()
    assert (steps({"age": sign}) > 0).any()


def test_what_cannot_be_monotone_is_named(encoding, sample):
    for name in ("tier", "height"):
        with pytest.raises(UserError, match=rf"names {name}, .*It sees: age, minutes, paying, attribute\.price"):
            fit("lightgbm", encoding, sample, SMALL, 0, {name: 1})
    with pytest.raises(UserError, match="logistic can't hold a feature monotone"):
        fit("logistic", encoding, sample, {}, 0, {"age": 1})


def test_what_a_config_cannot_say_to_lightgbm_is_refused(encoding, sample):
    with pytest.raises(UserError, match="can't set LightGBM's objective"):
        fit("lightgbm", encoding, sample, {"objective": "regression"}, 0)


def test_trees_that_the_scorer_cannot_do_are_refused(encoding, sample, monkeypatch):
    with monkeypatch.context() as few:
        few.setattr("models.trees.MAX_LEAVES", 16)
        with pytest.raises(UserError, match=r"tree 0 has .* leaves; the scorer does 1 to 16: lower num_leaves"):
            fit("lightgbm", encoding, sample, {"num_leaves": 31, "min_data_in_leaf": 5}, 0)
    monkeypatch.setattr("models.masks.LARGEST", 100)
    for learner in ("lightgbm", "t_learner"):
        with pytest.raises(UserError, match=r"can't be served: .* too large tables: train fewer"):
            fit(learner, encoding, sample, SMALL if learner == "lightgbm" else {"min_rows": 10, "min_positives": 1}, 0)


def test_unknown_learners_and_parameters_are_named(encoding, sample):
    with pytest.raises(UserError, match=", ".join(sorted(LEARNERS))):
        fit("oracle", encoding, sample, {}, 0)
    with pytest.raises(UserError, match="depth"):
        fit("logistic", encoding, sample, {"depth": 3}, 0)
    with pytest.raises(UserError, match="LightGBM refuses"):
        fit("lightgbm", encoding, sample, {"num_leaves": 1}, 0)


WHEN_IT_LOADS = """
import os, sys
class Watch:
    def find_spec(self, name, *more):
        if name == "lightgbm":
            print(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
import training.train
"""


def test_whoever_trains_tells_openmp_not_to_spin_before_it_loads():
    free = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", WHEN_IT_LOADS], env=free, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["passive"]
