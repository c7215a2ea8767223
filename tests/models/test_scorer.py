"""The scorer against LightGBM itself, bit for bit: by C and by numpy, one row at a time and many."""

import math
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import lightgbm
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from decisioning.errors import UserError
from decisioning.native import OFF
from models import scorer as scoring
from models.crossing import Crossing
from models.scorer import NUMPY, C, ForestsScorer, TreeScorer, Way, fastest
from models.trees import ZERO, parse

WAYS = [Way(C), Way(NUMPY)]
MISSING = {"nan": {}, "zero": {"zero_as_missing": True}, "none": {"use_missing": False}}
LEAVES = [2, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 100, 130]


@pytest.fixture(autouse=True)
def _both_ways_are_here(monkeypatch):
    monkeypatch.delenv(scoring.WISH, raising=False)
    if scoring.NOT_BUILT and (os.environ.get("SEGUE_NATIVE") == OFF or not (shutil.which("cc") or shutil.which("gcc"))):
        pytest.skip(scoring.NOT_BUILT)
    assert fastest() == Way(C), "run `make setup`, which builds the C extension"


def grid(rng, rows, columns, categories=()):
    """Numbers with many ties, zeros, tiny values on both sides of LightGBM's zero, and missing ones; categories that
    the model knows and others, negative, between two, and too large for an int."""
    values = np.round(rng.normal(size=(rows, columns)), 1).astype(np.float32)
    values[rng.random((rows, columns)) < 0.1] = 0.0
    for tiny in (1e-36, -1e-36, ZERO, -ZERO, 2e-35):
        values[rng.random((rows, columns)) < 0.02] = tiny
    for column in categories:
        values[:, column] = rng.integers(0, 40, rows)
        for odd in (-1.0, -0.5, 0.5, 39.9, 77.0, 2.0**31, -3e9, 1e38):
            values[rng.random(rows) < 0.02, column] = odd
    values[rng.random((rows, columns)) < 0.1] = np.nan
    return values


def booster(rng, columns, leaves, trees, missing, categories=(), rows=400):
    matrix = grid(rng, rows, columns, categories)
    known = matrix.copy()
    known[:, list(categories)] = np.abs(known[:, list(categories)]) % 40  # LightGBM trains on none below zero
    signal = np.nan_to_num(known[:, 0]) * np.nan_to_num(known[:, -1]) + np.sin(np.nan_to_num(known[:, columns // 2]))
    outcome = (signal + rng.normal(size=rows) > 0).astype(float)
    params = {"objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 1, "verbosity": -1, "num_threads": 1,
              "min_sum_hessian_in_leaf": 0, "cat_smooth": 1, "min_data_per_group": 1, "max_cat_to_onehot": 3,
              **MISSING[missing]}  # fmt: skip
    data = lightgbm.Dataset(known, outcome, categorical_feature=list(categories), params={"verbosity": -1})
    try:
        return lightgbm.train(params, data, trees)
    except lightgbm.basic.LightGBMError:
        return reject()  # a check of its own fails now and then, with splits as free as these


def expected(model, contexts, offers, crossings=()):
    """(contexts, offers) raw scores, by LightGBM from the matrix of all pairs."""
    rows = []
    for context in contexts:
        crossed = [crossing.of(context[None], range(len(offers)))[0] for crossing in crossings]
        rows.append(np.column_stack([np.tile(context, (len(offers), 1)), offers, *crossed]))
    return model.predict(np.vstack(rows), raw_score=True).reshape(len(contexts), len(offers)).tolist()


def check(forest, contexts, offers, wanted, crossings=()):
    everything = list(range(len(offers)))
    for way in WAYS:
        scorer = TreeScorer(forest, contexts.shape[1], offers, crossings, way)
        assert scorer.way == way
        assert [scorer.raw(row.tolist(), everything) for row in contexts] == wanted
        assert scorer.matrix(contexts, everything).tolist() == wanted
        some = everything[::-2]
        assert scorer.raw(contexts[0].tolist(), some) == [wanted[0][offer] for offer in some]
        assert scorer.matrix(contexts[:3], some).tolist() == [[row[offer] for offer in some] for row in wanted[:3]]


@given(
    seed=st.integers(0, 2**32 - 1),
    context=st.integers(1, 6),
    offer=st.integers(1, 4),
    leaves=st.sampled_from(LEAVES),
    trees=st.integers(1, 8),
    missing=st.sampled_from(sorted(MISSING)),
    categorical=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_scores_equal_lightgbms_to_the_last_bit(seed, context, offer, leaves, trees, missing, categorical):
    rng = np.random.default_rng(seed)
    categories = (0, context) if categorical else ()
    model = booster(rng, context + offer, leaves, trees, missing, categories)
    contexts = grid(rng, 12, context, categories[:1]).astype(float)
    offers = grid(rng, 5, offer, tuple(place - context for place in categories[1:])).astype(float)
    check(parse(model.model_to_string()), contexts, offers, expected(model, contexts, offers))


@given(seed=st.integers(0, 2**32 - 1), leaves=st.sampled_from([7, 31, 70]), missing=st.sampled_from(sorted(MISSING)))
@settings(max_examples=60, deadline=None)
def test_columns_that_user_and_offer_make_together_are_scored_exactly(seed, leaves, missing):
    """One takes another place of the context for each offer, one is a product; factors may be missing, or too large."""
    rng = np.random.default_rng(seed)
    model = booster(rng, 7, leaves, 6, missing)
    contexts, offers = grid(rng, 10, 3).astype(float), grid(rng, 6, 2).astype(float)
    crossings = (
        Crossing(rng.integers(0, 3, 6), np.array([1.0, 1.0, 0.0, np.nan, 1.0, 1.0])),
        Crossing(np.full(6, 1), np.array([*grid(rng, 1, 4)[0].astype(float), 3e38, -3e38])),
    )
    check(parse(model.model_to_string()), contexts, offers, expected(model, contexts, offers, crossings), crossings)


@pytest.mark.parametrize("missing", sorted(MISSING))
def test_a_value_on_a_threshold_goes_where_lightgbm_sends_it(missing):
    rng = np.random.default_rng(8)
    model = booster(rng, 5, 16, 10, missing)
    forest = parse(model.model_to_string())
    edges = {threshold for tree in forest.trees for threshold in tree.threshold}
    edges = sorted(edges | {math.nextafter(edge, way) for edge in edges for way in (-math.inf, math.inf)})
    contexts, offers = rng.choice(edges, (150, 3)), rng.choice(edges, (4, 2))
    check(forest, contexts, offers, expected(model, contexts, offers))


def test_every_category_goes_where_lightgbm_sends_it():
    rng = np.random.default_rng(2)
    model = booster(rng, 2, 31, 10, "nan", (0,), rows=2000)
    forest = parse(model.model_to_string())
    assert any(tree.categories for tree in forest.trees)
    values = [
        -np.inf,
        -(2.0**40),
        -2.0,
        -1.0,
        -0.9,
        -1e-40,
        0.0,
        *np.arange(0, 45, 0.5),
        2.0**31,
        1e300,
        np.inf,
        np.nan,
    ]
    contexts, offers = np.array(values)[:, None], np.array([[0.3], [-1.0]])
    check(forest, contexts, offers, expected(model, contexts, offers))


def test_many_trees_are_summed_in_their_order():
    """200 trees: a pairwise sum would differ in the last bits for some of these rows."""
    rng = np.random.default_rng(3)
    model = booster(rng, 7, 31, 200, "nan")
    offers, contexts = grid(rng, 30, 3).astype(float), grid(rng, 40, 4).astype(float)
    wanted = expected(model, contexts, offers)
    check(parse(model.model_to_string()), contexts, offers, wanted)
    for way in WAYS:
        scorer = TreeScorer(parse(model.model_to_string()), 4, offers, way=way)
        assert [scorer.raw(contexts[0].tolist(), [offer])[0] for offer in range(30)] == wanted[0]
        assert scorer.raw(contexts[0].tolist(), []) == []


@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_forests_together_equal_each_alone_to_the_last_bit(seed, sizes):
    """Of different sizes, with the offer block left out."""
    rng = np.random.default_rng(seed)
    models = [booster(rng, 4, int(rng.integers(2, 70)), trees, "nan") for trees in sizes]
    contexts = grid(rng, 12, 4).astype(float)
    wanted = np.column_stack([model.predict(contexts, raw_score=True) for model in models]).tolist()
    for way in WAYS:
        scorer = ForestsScorer([parse(model.model_to_string()) for model in models], 4, way)
        assert scorer.matrix(contexts).tolist() == wanted
        assert [scorer.raw(row.tolist()) for row in contexts] == wanted


def test_more_leaves_than_sixteen_bits_can_number_are_told_apart():
    rng = np.random.default_rng(6)
    model = booster(rng, 4, 130, 26, "nan")
    contexts, copies = grid(rng, 12, 4).astype(float), 20
    assert 26 * 130 * copies > 1 << 16
    wanted = [[score] * copies for score in model.predict(contexts, raw_score=True).tolist()]
    for way in WAYS:
        scorer = ForestsScorer([parse(model.model_to_string())] * copies, 4, way)
        assert scorer.matrix(contexts).tolist() == wanted
        assert [scorer.raw(row.tolist()) for row in contexts] == wanted


def test_trees_without_a_split_score_their_constant():
    data = lightgbm.Dataset(np.zeros((100, 2)), [0.0, 1.0, 1.0, 1.0] * 25, params={"verbosity": -1})
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_in_leaf": 500}, data, 3)
    contexts, offers = np.zeros((1, 1)), np.zeros((2, 1))
    check(parse(model.model_to_string()), contexts, offers, expected(model, contexts, offers))


def test_threads_share_a_scorer():
    rng = np.random.default_rng(5)
    model = booster(rng, 5, 31, 50, "nan")
    contexts, offers = grid(rng, 400, 3).astype(float), grid(rng, 9, 2).astype(float)
    wanted = expected(model, contexts, offers)
    for way in WAYS:
        scorer = TreeScorer(parse(model.model_to_string()), 3, offers, way=way)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(scorer.raw, contexts.tolist(), repeat(range(9)))) == wanted


def test_forests_of_other_columns_are_refused():
    forest = parse(booster(np.random.default_rng(0), 4, 5, 2, "nan").model_to_string())
    with pytest.raises(ValueError, match="4 columns, not 3"):
        ForestsScorer([forest], 3)
    with pytest.raises(ValueError, match="4 columns, not 5"):
        TreeScorer(forest, 2, np.zeros((1, 3)))


def test_tables_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr("models.masks.LARGEST", 10_000)
    forest = parse(booster(np.random.default_rng(0), 4, 31, 20, "nan").model_to_string())
    with pytest.raises(ValueError, match=r"20 trees with .* intervals .* too large"):
        ForestsScorer([forest], 4)


def test_the_environment_says_which_way_is_taken(monkeypatch):
    monkeypatch.setenv("SEGUE_SCORER", "numpy")
    assert fastest() == Way(NUMPY, "SEGUE_SCORER=numpy")
    monkeypatch.setenv("SEGUE_SCORER", "c")
    assert fastest() == Way(C)
    monkeypatch.setenv("SEGUE_SCORER", "fast")
    with pytest.raises(UserError, match="'fast': it is c, numpy, or unset"):
        fastest()


def test_without_the_extension_numpy_serves_and_says_why(monkeypatch):
    monkeypatch.setattr(scoring, "NOT_BUILT", "the C extension is not there (for a test)")
    assert fastest() == Way(NUMPY, "the C extension is not there (for a test)")
    monkeypatch.setenv("SEGUE_SCORER", "c")
    with pytest.raises(UserError, match="make setup"):
        fastest()


def test_predictors_go_to_other_processes(models):
    question = models["lightgbm"].encoding.context({"age": 20}, "home")
    for learner in ("lightgbm", "t_learner", "dr_learner"):
        predictor = models[learner].predictor
        assert pickle.loads(pickle.dumps(predictor)).raw(question, [0, 1, 3]) == predictor.raw(question, [0, 1, 3])
