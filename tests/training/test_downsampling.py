"""Learning from a share of the negatives: quicker, and as calibrated as learning from all of them."""

import numpy as np
import pytest

from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Group, Offer, Score, Surface
from decisioning.errors import UserError
from models.encoding import Encoding
from models.fitting.sample import Sample
from models.learners import LEARNERS
from training.config import Config, read_config
from training.fitting import Fitting

OFFERS = {name: Offer(name, "pm", "plans", ("home",), Score("m", value=1.0)) for name in ("a", "b")}
CATALOG = Catalog(
    "h",
    features={name: FeatureSpec(name, FeatureType.FLOAT) for name in ("x", "y")},
    groups={"plans": Group("plans", "convert", 60.0)},
    surfaces={"home": Surface("home")},
    offers=OFFERS,
)
ENCODING = Encoding.of(CATALOG, ["home"], ["a", "b"])
SHARE = 0.1


def truth(contexts, offers):
    return 1 / (1 + np.exp(3.5 - contexts[:, 0] - 0.7 * contexts[:, 1] * (offers - 0.5)))


def rows(n, seed):
    """About 4 % convert."""
    rng = np.random.default_rng(seed)
    contexts, offers = rng.normal(size=(n, len(ENCODING.context_columns))).astype(np.float32), rng.integers(0, 2, n)
    outcome = (rng.random(n) < truth(contexts, offers)).astype(float)
    return Sample(contexts, offers, outcome, np.ones(n))


def predicted(predictor, sample):
    raw = predictor.matrix(sample.contexts, [0, 1])[np.arange(sample.n), sample.offers]
    return 1 / (1 + np.exp(-raw))


@pytest.mark.parametrize("learner", ["lightgbm", "s_learner", "t_learner", "logistic", "pooled"])
def test_what_learns_from_a_tenth_of_the_negatives_is_calibrated_before_any_calibration(learner):
    config = Config(learner, LEARNERS[learner].defaults, downsample_negatives=SHARE)
    predictor = Fitting(config, ENCODING, 0)(rows(60_000, seed=1))
    judged = rows(60_000, seed=2)
    p, true = predicted(predictor, judged), truth(judged.contexts, judged.offers)
    assert p.mean() == pytest.approx(true.mean(), rel=0.06)
    fifths = np.array_split(np.argsort(p), 5)
    for fifth in fifths[2:]:  # where nearly all conversions are
        assert p[fifth].mean() == pytest.approx(true[fifth].mean(), rel=0.25)


def test_without_weights_the_rates_would_be_several_times_too_high():
    """The mutation that the test above has to catch."""
    thin = rows(60_000, seed=1).thinned(SHARE, 0)
    careless = Sample(thin.table, thin.offers, thin.outcome, np.ones(thin.n))
    judged = rows(20_000, seed=2)
    p = predicted(Fitting(Config("logistic", LEARNERS["logistic"].defaults), ENCODING, 0)(careless), judged)
    assert p.mean() > 4 * truth(judged.contexts, judged.offers).mean()


def test_all_conversions_are_kept_and_weights_add_up_to_the_rows():
    sample = rows(50_000, seed=3)
    thin = sample.thinned(SHARE, 7)
    assert thin.outcome.sum() == sample.outcome.sum()
    assert thin.n == pytest.approx(sample.outcome.sum() + SHARE * (sample.n - sample.outcome.sum()), rel=0.05)
    assert thin.weights.sum() == pytest.approx(sample.n, rel=0.05)
    assert thin.rows is None  # it holds no more than its own rows


def test_a_row_is_kept_or_not_in_whatever_part_it_is():
    sample = rows(2_000, seed=4)
    half = sample.take(np.arange(1_000))
    ours = {row.tobytes() for row in half.thinned(0.3, 5).contexts}
    theirs = {row.tobytes() for row in sample.thinned(0.3, 5).contexts}
    assert ours == theirs & {row.tobytes() for row in half.contexts}


def test_a_share_of_all_is_all():
    sample = rows(1_000, seed=5)
    thin = sample.thinned(1.0, 0)
    assert np.array_equal(thin.contexts, sample.contexts)
    assert np.array_equal(thin.weights, sample.weights)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("downsample_negatives = 0", "above 0 and at most 1"),
        ("downsample_negatives = 1.5", "above 0 and at most 1"),
        ("downsample_negatives = true", "above 0 and at most 1"),
        ('learner = "dr_learner"\ndownsample_negatives = 0.1', "dr_learner can't learn from a share"),
    ],
)
def test_a_share_that_cannot_be_is_refused(tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_config(tmp_path / "mine.toml")
