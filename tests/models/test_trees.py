"""What is read from a text model, and what is refused."""

import re

import pytest
from tree_models import categorical_text, text_of

from models.trees import MAX_LEAVES, TreeError, parse, plan

TEXT = text_of()
CATEGORICAL = categorical_text()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"linear_tree": True}, "linear tree"),
        ({"objective": "multiclass", "num_class": 3}, "one output"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages"),
    ],
)
def test_what_the_scorer_cannot_do_is_refused_with_the_reason(params, reason):
    with pytest.raises(TreeError, match=reason):
        parse(text_of(**params))


def test_more_leaves_than_the_scorer_does_are_refused():
    with pytest.raises(TreeError, match="1025 leaves"):
        parse(re.sub("num_leaves=.*", f"num_leaves={MAX_LEAVES + 1}", TEXT, count=1))


def test_leaves_are_counted_from_left_to_right():
    for text in (TEXT, CATEGORICAL):
        for tree in parse(text).trees:
            order, spans = plan(tree)
            assert sorted(order) == list(range(len(tree.leaf)))
            for node, (first, after) in enumerate(spans):
                assert order[first] in leaves_below(tree, tree.left[node])
                assert set(order[first:after]) == leaves_below(tree, tree.left[node])
                assert order[after] in leaves_below(tree, tree.right[node])


def leaves_below(tree, node):
    return {~node} if node < 0 else leaves_below(tree, tree.left[node]) | leaves_below(tree, tree.right[node])


@pytest.mark.parametrize("kept", range(0, 1000, 37))
def test_a_model_cut_off_anywhere_is_refused(kept):
    with pytest.raises(TreeError):
        parse(TEXT[: int(len(TEXT.partition("end of trees")[0]) * kept / 1000)])


@pytest.mark.parametrize("key", ["max_feature_idx", "num_leaves"])
def test_a_number_that_was_wiped_out_is_named(key):
    with pytest.raises(TreeError, match=f"0 numbers for '{key}'"):
        parse(re.sub(f"{key}=.*", f"{key}= ", TEXT, count=1))


@pytest.mark.parametrize(
    ("pattern", "instead", "reason"),
    [
        ("cat_boundaries=.*", "cat_boundaries=0 -1 2", "bounds of its categories"),
        ("cat_boundaries=.*", "cat_boundaries=0 9999", "bounds of its categories"),
        ("cat_threshold=.*", "cat_threshold=-1", "categories"),
        ("cat_threshold=.*", "cat_threshold=99999999999", "categories"),
        ("\nthreshold=.*", "\nthreshold=77 1e300 inf", "tree 0 is damaged"),
        ("left_child=.*", "left_child=0 0 0", "tree 0 is damaged"),
    ],
)
def test_damage_to_categories_and_nodes_is_refused(pattern, instead, reason):
    with pytest.raises(TreeError, match=reason):
        parse(re.sub(pattern, instead, CATEGORICAL, count=1))
