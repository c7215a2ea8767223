"""What cross-fitting costs, and what it may not look at."""

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from evaluation.labels.logged import Logged
from evaluation.values.crossfit import CrossFit
from evaluation.values.judged import judge
from evaluation.values.lessons import folds_of
from models.crossing import Traits
from models.encoding import Encoding
from models.fitting import boosting
from models.learners import fit

ROWS, FEATURES, ARMS = 8_000, 60, ("a", "b", "c")


@pytest.fixture(scope="module")
def wide():
    """A million decisions in small: 60 numbers, three offers, two decisions a user."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    action = rng.integers(0, 3, ROWS)
    conversion = (rng.random(ROWS) < 0.1 + 0.1 * ((x[:, 0] > 0) == (action == 1))).astype(float)
    logged = Logged(
        arms=ARMS,
        groups=("all",) * 3,
        net=np.ones(3),
        priority=np.zeros(3),
        surfaces=("home",),
        user=np.arange(ROWS) // 2,
        surface=np.zeros(ROWS, np.intp),
        action=action,
        probability=np.full(ROWS, 1 / 3),
        eligible=np.ones((ROWS, 3), bool),
        conversion=conversion,
        primary="convert",
        outcomes={"convert": conversion},
        facts=pd.DataFrame({f"x{k:02d}": x[:, k] for k in range(FEATURES)}),
        start=0.0,
        end=1.0,
        immature=0,
    )
    specs = tuple(FeatureSpec(f"x{k:02d}", FeatureType.FLOAT) for k in range(FEATURES))
    return logged, Encoding(specs, ("home",), tuple(Traits(arm, "all") for arm in ARMS))


def folds(logged, encoding, learner="lightgbm", **options):
    params = {"num_trees": 3, "num_threads": 1} | ({"effect_trees": 3} if learner == "dr_learner" else {})
    return CrossFit(logged, encoding, lambda sample: fit(learner, encoding, sample, params, 0), **options)


@pytest.mark.parametrize(("learner", "times"), [("lightgbm", 1), ("t_learner", 1), ("dr_learner", 2)])
def test_features_are_put_in_bins_once_for_all_fits(wide, monkeypatch, learner, times):
    made, original = [], boosting._binned
    monkeypatch.setattr(boosting, "_binned", lambda *given: (made.append(1), original(*given))[1])
    fits = folds(*wide, learner, folds=3)
    judge(fits)
    fits.final()
    assert len(made) == times  # the DR-learner's outcome model sees offers, and its effects don't


def test_a_fold_copies_no_features_for_a_boosted_learner(wide):
    """At a million rows and 60 features a copy is 0.25 GB: what is fitted are rows of bins that are there already."""
    logged, encoding = wide
    seen = []

    def spy(sample):
        seen.append(sample)
        return fit("lightgbm", encoding, sample, {"num_trees": 2}, 0)

    fits = CrossFit(logged, encoding, spy, folds=3)
    fits.final()
    assert len(seen) == 4
    assert all(sample.table is seen[0].table for sample in seen)
    assert not any("contexts" in vars(sample) for sample in seen)
    assert np.shares_memory(fits.contexts, seen[0].table)


def test_scores_are_kept_in_single_precision_and_mean_the_same(wide):
    fits = folds(*wide, folds=3)
    raw = fits.raw(frozenset({0}), 0)
    assert raw.dtype == np.float32
    rows = np.flatnonzero(fits.fold == 0)
    exact = fits.predictor(frozenset({0})).matrix(fits.contexts[rows], [0, 1, 2])
    np.testing.assert_allclose(raw, exact, atol=1e-5)


def test_folds_hold_the_same_share_of_users_who_converted(wide):
    logged, _ = wide
    fold = folds_of(logged, 5, 0)
    converted = np.bincount(logged.user, weights=logged.conversion) > 0
    of_user = fold[::2]
    counts = np.bincount(of_user[converted], minlength=5)
    assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(of_user)) <= 1


def test_another_seed_draws_other_folds(wide):
    logged, _ = wide
    assert (folds_of(logged, 5, 0) == folds_of(logged, 5, 0)).all()
    assert (folds_of(logged, 5, 0) != folds_of(logged, 5, 1)).mean() > 0.7
