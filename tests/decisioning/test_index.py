"""The index: many conditions decided by one look-up per feature, exactly as one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_conditions import FEATURES, NOW, conditions, facts, naive

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.index import MEMO_LIMIT, build_index


@given(st.lists(conditions, max_size=6), st.lists(facts, min_size=1, max_size=4))
def test_the_index_and_a_naive_interpreter_agree_on_conditions_and_on_every_bit_of_the_truth_word(several, users):
    index = build_index(several, FEATURES)
    for values in [*users, *users]:  # twice: what was remembered must not change the answer
        alive, word = index.evaluate(values, NOW)
        for position, condition in enumerate(several):
            assert bool(alive >> position & 1) is naive(condition, values, NOW)
            assert index.holds(condition, word) is naive(condition, values, NOW)
        for position, test in enumerate(index.tests):
            assert bool(word >> position & 1) is naive(test, values, NOW)


EXTREMES = [1.7e308, 1.2e308, -1.7e308, 5e-324, 1.5e-323]
"""Whose sums and halves are not what they should be."""


@given(st.lists(st.floats(-1e9, 1e9) | st.sampled_from(EXTREMES), min_size=1, max_size=6), st.data())
def test_a_number_on_between_and_beyond_the_thresholds_falls_into_its_cell(thresholds, data):
    several = [Test("x", op, t) for t in thresholds for op in (Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW)]
    index = build_index(several, {"x": FeatureSpec("x", FeatureType.FLOAT)})
    for value in [*thresholds, *EXTREMES, 1e-323, 1.5e308, data.draw(st.floats(allow_nan=False, allow_infinity=False))]:
        alive, _ = index.evaluate({"x": value}, NOW)
        assert [bool(alive >> n & 1) for n in range(len(several))] == [holds(t, {"x": value}, NOW) for t in several]


def test_a_value_that_nobody_names_is_like_no_name():
    several = [Test("tier", Op.IS, ("free",)), Test("tier", Op.IS_NOT, ("free",)), Test("tier", Op.MISSING)]
    index = build_index(several, FEATURES)
    assert index.evaluate({"tier": "platinum"}, NOW)[0] == 0b010
    assert index.evaluate({"tier": None}, NOW)[0] == 0b100
    assert index.evaluate({}, NOW)[0] == 0b100


def test_what_a_table_remembers_is_bounded():
    index = build_index([Test("sessions", Op.MIN, 3)], FEATURES)
    for sessions in range(2 * MEMO_LIMIT):
        assert index.evaluate({"sessions": sessions}, NOW)[0] == (sessions >= 3)
    remembered = index.evaluate.__globals__["cells0"]
    assert len(remembered) == MEMO_LIMIT


def test_a_test_that_is_given_twice_counts_once():
    free, student = Test("tier", Op.IS, ("free",)), Test("student", Op.IS, (True,))
    index = build_index([AnyOf((free, student, free)), AllOf((AnyOf((free, student)),) * 2)], FEATURES)
    assert index.evaluate({"tier": "free"}, NOW)[0] == 0b11


def test_no_conditions_and_empty_ones_are_decided_too():
    assert build_index([], FEATURES).evaluate({}, NOW) == (0, 0)
    assert build_index([AllOf(()), AnyOf(())], FEATURES).evaluate({}, NOW)[0] == 0b01


@pytest.mark.parametrize("name", ["__class__", "x'); import os; ('", "value", "state", "get"])
def test_a_name_from_the_catalog_never_becomes_code(name):
    index = build_index([Test(name, Op.IS, (name,))], {name: FeatureSpec(name, FeatureType.ENUM, (name,))})
    assert index.evaluate({name: name}, NOW)[0] == 1
    assert index.evaluate({}, NOW)[0] == 0
