"""Models fitted on Ray: by ranks together, all of which come to the same one, or each whole in a worker."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Group, Offer, Score, Surface
from decisioning.errors import UserError
from evaluation.values.lessons import Folds
from models.encoding import Encoding
from models.fitting.sample import Sample
from models.learners import LEARNERS
from scaling.engines import Disagreement
from scaling.local import ALONE
from training.config import Config
from training.fitting import Fitting, _Together, digest, fit_all_on

PARTS = [frozenset(), frozenset({0}), frozenset({1, 2})]
CLOSE = {"log_loss": 0.002, "auc": 0.004}
"""How far ranks may be from one machine on unseen rows: their bins are of other samples, their sums in other orders."""


@pytest.fixture(scope="module")
def encoding():
    specs = {f"x{n}": FeatureSpec(f"x{n}", FeatureType.FLOAT) for n in range(6)}
    offers = {name: Offer(name, "pm", "plans", ("home",), Score("m", value=1.0)) for name in ("a", "b")}
    groups, surfaces = {"plans": Group("plans", "convert", 60.0)}, {"home": Surface("home")}
    return Encoding.of(Catalog("h", features=specs, groups=groups, surfaces=surfaces, offers=offers), ["home"], "ab")


def truth(contexts, offers):
    score = contexts[:, 0] * np.where(offers == 0, 1.0, -0.5) + 0.5 * np.nan_to_num(contexts[:, 1]) ** 2 - 2.0
    return 1 / (1 + np.exp(-score))


def lessons(n, encoding, seed):
    rng = np.random.default_rng(seed)
    contexts = rng.normal(size=(n, len(encoding.context_columns))).astype(np.float32)
    contexts[rng.random(n) < 0.1, 1] = np.nan
    offers = rng.integers(0, 2, n)
    outcome = (rng.random(n) < truth(contexts, offers)).astype(float)
    return Folds(Sample(contexts, offers, outcome, np.ones(n), np.full(n, 0.5)), rng.integers(0, 3, n))


def unseen(predictor, encoding):
    judged = lessons(20_000, encoding, seed=99).lessons
    raw = predictor.matrix(judged.contexts, [0, 1])[np.arange(judged.n), judged.offers]
    p = 1 / (1 + np.exp(-raw))
    return {"log_loss": log_loss(judged.outcome, p), "auc": roc_auc_score(judged.outcome, p)}


def config(learner="lightgbm"):
    return Config(learner, LEARNERS[learner].defaults)


def test_ranks_that_hold_half_the_rows_each_fit_what_one_machine_fits_on_all(ray_engine, encoding):
    folds, fitting = lessons(40_000, encoding, seed=1), Fitting(config(), encoding, 0)
    together = list(fit_all_on(ray_engine, fitting)(folds, PARTS))  # raises Disagreement where ranks differ
    assert len(together) == len(PARTS)
    assert all("[num_machines: 2]" in predictor.text for predictor in together)
    for left_out, predictor in zip(PARTS, together, strict=True):
        alone = fitting(folds.part(left_out))
        half = fitting(folds.shards(2)[0].part(left_out))
        ours, theirs, worse = (unseen(one, encoding) for one in (predictor, alone, half))
        assert all(abs(ours[name] - theirs[name]) < within for name, within in CLOSE.items())
        assert worse["log_loss"] > ours["log_loss"]


@dataclass(frozen=True)
class Forgetful(_Together):
    """A rank that never joins the network, as if `get_network_params` had been forgotten."""

    def __call__(self, shard, network):
        return super().__call__(shard, {})


def test_ranks_that_forget_the_network_are_found_out(ray_engine, encoding):
    folds, fitting = lessons(4_000, encoding, seed=1), Fitting(config(), encoding, 0)
    with pytest.raises(Disagreement, match="each on its own part of the data"):
        ray_engine.together(Forgetful(fitting, (frozenset(),)), folds.shards(2))


@pytest.mark.parametrize("learner", ["logistic", pytest.param("t_learner", marks=pytest.mark.heavy)])
def test_a_learner_that_ranks_cannot_share_has_its_fits_done_side_by_side_and_the_same(ray_engine, encoding, learner):
    folds, fitting = lessons(4_000, encoding, seed=1), Fitting(config(learner), encoding, 0)
    there = list(fit_all_on(ray_engine, fitting)(folds, PARTS))
    here = list(fit_all_on(ALONE, fitting)(folds, PARTS))
    assert [digest(one) for one in there] == [digest(one) for one in here]
    assert len({digest(one) for one in here}) == len(PARTS)


def test_too_few_conversions_to_deal_out_are_refused_before_anything_starts(ray_engine, encoding):
    folds = lessons(2_000, encoding, seed=1)
    few = Folds(Sample(folds.lessons.table, folds.lessons.offers, np.arange(2_000) < 1.0, np.ones(2_000)), folds.fold)
    with pytest.raises(UserError, match="too few conversions to deal them out to 2 workers"):
        list(fit_all_on(ray_engine, Fitting(config(), encoding, 0))(few, PARTS))
