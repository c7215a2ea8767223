"""The scorer against LightGBM itself: bit for bit."""

import re

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer import ForestsScorer, TreeScorer
from models.trees import ZERO, TreeError, parse

MISSING = {"nan": {}, "zero": {"zero_as_missing": True}, "none": {"use_missing": False}}


def grid(rng, rows, columns):
    """Numbers with many ties, zeros, tiny values on both sides of LightGBM's zero, and missing ones."""
    values = np.round(rng.normal(size=(rows, columns)), 1).astype(np.float32)
    values[rng.random((rows, columns)) < 0.1] = np.nan
    values[rng.random((rows, columns)) < 0.1] = 0.0
    for tiny in (1e-36, -1e-36, ZERO, -ZERO, 2e-35):
        values[rng.random((rows, columns)) < 0.02] = tiny
    return values


def booster(rng, context, offer, leaves, trees, missing, objective="binary"):
    matrix = grid(rng, 400, context + offer)
    signal = np.nan_to_num(matrix[:, 0]) * np.nan_to_num(matrix[:, -1]) + np.nan_to_num(matrix[:, context // 2])
    outcome = (signal + rng.normal(size=400) > 0).astype(float)
    params = {"objective": objective, "num_leaves": leaves, "min_data_in_leaf": 2, "verbosity": -1, "num_threads": 1,
              "min_sum_hessian_in_leaf": 0, **MISSING[missing]}  # fmt: skip
    return lightgbm.train(params, lightgbm.Dataset(matrix, outcome, params={"verbosity": -1}), trees)


@given(
    seed=st.integers(0, 2**32 - 1),
    context=st.integers(1, 6),
    offer=st.integers(1, 4),
    leaves=st.sampled_from([2, 5, 8, 9, 16, 31, 32, 33, 64]),
    trees=st.integers(1, 12),
    missing=st.sampled_from(sorted(MISSING)),
)
@settings(max_examples=60, deadline=None)
def test_scores_equal_lightgbms_to_the_last_bit(seed, context, offer, leaves, trees, missing):
    rng = np.random.default_rng(seed)
    model = booster(rng, context, offer, leaves, trees, missing)
    offers = grid(rng, 5, offer).astype(float)
    contexts = grid(rng, 20, context)
    scorer = TreeScorer(parse(model.model_to_string()), context, offers)
    everything = np.arange(len(offers))
    batch = scorer.matrix(contexts, everything)
    for row, one in enumerate(contexts.astype(float)):
        expected = model.predict(np.hstack([np.tile(one, (len(offers), 1)), offers]), raw_score=True)
        assert scorer.raw(one.tolist(), everything).tolist() == expected.tolist()
        assert batch[row].tolist() == expected.tolist()
        assert scorer.raw(one.tolist(), everything[2:3]).tolist() == [expected[2]]


def test_a_value_on_a_threshold_goes_where_lightgbm_sends_it():
    rng = np.random.default_rng(8)
    model = booster(rng, 3, 2, 16, 10, "nan")
    forest = parse(model.model_to_string())
    edges = sorted({threshold for tree in forest.trees for threshold in tree.threshold})
    offers = rng.choice(edges, (4, 2))
    scorer = TreeScorer(forest, 3, offers)
    contexts = rng.choice(edges, (200, 3))
    batch = scorer.matrix(contexts, np.arange(4))
    for row, one in enumerate(contexts):
        expected = model.predict(np.hstack([np.tile(one, (4, 1)), offers]), raw_score=True).tolist()
        assert scorer.raw(one.tolist(), np.arange(4)).tolist() == expected == batch[row].tolist()


def test_many_trees_are_summed_in_their_order():
    """200 trees: a pairwise sum would differ in the last bits for some of these rows."""
    rng = np.random.default_rng(3)
    model = booster(rng, 4, 3, 31, 200, "nan")
    offers, contexts = grid(rng, 30, 3).astype(float), grid(rng, 40, 4).astype(float)
    scorer = TreeScorer(parse(model.model_to_string()), 4, offers)
    for one in contexts:
        expected = model.predict(np.hstack([np.tile(one, (30, 1)), offers]), raw_score=True)
        assert scorer.raw(one.tolist(), np.arange(30)).tolist() == expected.tolist()
        assert [scorer.raw(one.tolist(), np.array([o]))[0] for o in range(30)] == expected.tolist()


@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_forests_together_equal_each_alone_to_the_last_bit(seed, sizes):
    """Of different sizes, with the offer block left out."""
    rng = np.random.default_rng(seed)
    models = [booster(rng, 3, 1, int(rng.integers(2, 32)), trees, "nan") for trees in sizes]
    contexts = grid(rng, 15, 4)
    scorer = ForestsScorer([parse(model.model_to_string()) for model in models], 4)
    expected = np.column_stack([model.predict(contexts.astype(float), raw_score=True) for model in models])
    assert scorer.matrix(contexts).tolist() == expected.tolist()
    for row, one in enumerate(contexts.astype(float)):
        assert scorer.raw(one.tolist()).tolist() == expected[row].tolist()


def test_forests_of_other_columns_are_refused():
    model = booster(np.random.default_rng(0), 2, 2, 5, 2, "nan")
    with pytest.raises(ValueError, match="other columns than the 3"):
        ForestsScorer([parse(model.model_to_string())], 3)


def test_trees_without_a_split_score_their_constant():
    data = lightgbm.Dataset(np.zeros((100, 2)), [0.0, 1.0, 1.0, 1.0] * 25, params={"verbosity": -1})
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_in_leaf": 500}, data, 3)
    scorer = TreeScorer(parse(model.model_to_string()), 1, np.zeros((2, 1)))
    expected = model.predict(np.zeros((2, 2)), raw_score=True)
    assert scorer.raw([0.0], np.array([0, 1])).tolist() == expected.tolist()
    assert scorer.matrix(np.zeros((1, 1)), np.array([1])).tolist() == [[expected[1]]]


def test_a_forest_of_other_columns_is_refused():
    model = booster(np.random.default_rng(0), 2, 2, 5, 2, "nan")
    with pytest.raises(ValueError, match="4 columns"):
        TreeScorer(parse(model.model_to_string()), 2, np.zeros((1, 3)))


def text_of(**params):
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 5, (500, 3)).astype(float)
    outcome = (matrix[:, 0] % 2 == 0).astype(float) if params.get("objective") != "multiclass" else matrix[:, 0] % 3
    settings = {"objective": "binary", "verbosity": -1, "min_data_in_leaf": 2, **params}
    categories = settings.pop("categories", "auto")
    data = lightgbm.Dataset(matrix, outcome, categorical_feature=categories, params={"verbosity": -1, **settings})
    return lightgbm.train(settings, data, 3).model_to_string()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"categories": [0]}, "categorical"),
        ({"linear_tree": True}, "linear tree"),
        ({"objective": "multiclass", "num_class": 3}, "one output"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages"),
    ],
)
def test_what_the_scorer_cannot_do_is_refused_with_the_reason(params, reason):
    with pytest.raises(TreeError, match=reason):
        parse(text_of(**params))


def test_more_leaves_than_bits_are_refused():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2000, 2))
    params = {"objective": "regression", "num_leaves": 80, "min_data_in_leaf": 2, "verbosity": -1}
    model = lightgbm.train(params, lightgbm.Dataset(matrix, matrix.sum(axis=1), params={"verbosity": -1}), 1)
    with pytest.raises(TreeError, match="80 leaves"):
        parse(model.model_to_string())


@pytest.mark.parametrize("kept", range(0, 1000, 37))
def test_a_model_cut_off_anywhere_is_refused(kept):
    text = text_of()
    with pytest.raises(TreeError):
        parse(text[: int(len(text.partition("end of trees")[0]) * kept / 1000)])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_model_is_refused_or_still_a_tree(data):
    """No damage makes the parser hang, crash, or let an index through that would read elsewhere."""
    text = TEXT
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from("0123456789-. \nxe=")) + text[at + 1 :]
    try:
        forest = parse(damaged)
    except TreeError:
        return
    scorer = TreeScorer(forest, 2, np.zeros((1, max(forest.columns - 2, 0)))) if forest.columns < 50 else None
    if scorer is not None:
        assert np.isfinite(scorer.raw([0.0, np.nan], np.array([0]))).all()


@pytest.mark.parametrize("key", ["max_feature_idx", "num_leaves"])
def test_a_number_that_was_wiped_out_is_named(key):
    with pytest.raises(TreeError, match=f"0 numbers for '{key}'"):
        parse(re.sub(f"{key}=.*", f"{key}= ", TEXT, count=1))


TEXT = text_of()
