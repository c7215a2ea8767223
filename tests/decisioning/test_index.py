"""The index: many conditions decided by one look-up per feature, exactly as one by one."""

import math
from collections import ChainMap
from enum import StrEnum
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_conditions import FEATURES, NOW, conditions, facts, naive
from random_population import random_condition

from decisioning import by_cells
from decisioning.by_cells import VERSION
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.index import MEMO_LIMIT, build_index
from decisioning.native import missing, native

NATIVE = "decisioning._cells"


class Word(StrEnum):
    FREE = "free"


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
    index = build_index([Test("sessions", Op.MIN, 3), Test("tier", Op.IS_NOT, ("free",))], FEATURES)
    for sessions in range(2 * MEMO_LIMIT):
        values = {"sessions": sessions, "tier": f"tier_{sessions}"}
        for evaluate in (index.evaluate, index.twin):
            assert evaluate(values, NOW)[0] == 0b10 | (sessions >= 3)
    for cells in ("cells0", "cells1"):
        assert len(index.twin.__globals__[cells]) == MEMO_LIMIT
    if index.evaluate is not index.twin:
        assert index.evaluate.__self__.remembered() == MEMO_LIMIT


ODD = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    2**53 + 1,
    2**80,
    -(2**80),
    0.0,
    -0.0,
    3,
    3.0,
    Word.FREE,
    "free",
    [1],
    {"a"},
]


MANY = [random_condition(Random(number)) for number in range(60)]
"""So many that those after them straddle two words of the state."""


@pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))
@given(
    st.sampled_from([[], MANY]),
    st.lists(conditions, max_size=12),
    st.lists(facts, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(sorted(FEATURES)), st.sampled_from(ODD), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_the_extension_gives_what_python_gives_whatever_the_values_are(before, several, users, odd):
    index = build_index([*before, *several], FEATURES)
    for values in users * 2:
        for mapping in (values, ChainMap(values), {**values, **odd}):
            assert told(index.evaluate, mapping) == told(index.twin, mapping)


def told(evaluate, values):
    try:
        return evaluate(values, NOW)
    except (AttributeError, TypeError, ValueError) as error:
        return type(error)


def test_thresholds_that_no_double_holds_are_kept_apart():
    several = [Test("n", Op.MIN, 2**53 + odd) for odd in range(4)] + [Test("n", Op.IS, (2**70, 2**70 + 1))]
    index = build_index(several, {"n": FeatureSpec("n", FeatureType.INT)})
    for n in [*range(2**53 - 2, 2**53 + 6), 2**70, 2**70 + 1, 2**70 + 2]:
        assert index.evaluate({"n": n}, NOW) == index.twin({"n": n}, NOW)


def test_conditions_too_deep_or_too_many_are_left_to_python():
    deep = Test("sessions", Op.MIN, 3)
    for n in range(150):
        deep = (AllOf, AnyOf)[n % 2]((deep, Test("tier", Op.IS, ("free",))))
    index = build_index([deep], FEATURES)
    assert index.evaluate is index.twin
    several = [Test("sessions", Op.MIN, n) for n in range(20_000)]
    assert by_cells.evaluator([], {}, dict.fromkeys(several, 1), 20_000, 1, index.twin) is index.twin


def test_a_state_may_be_as_large_as_it_gets():
    index = build_index([], FEATURES)
    for count in (by_cells.MOST_BITS, by_cells.MOST_BITS - 1, 64, 1):
        evaluate = by_cells.evaluator([], {}, {}, count, 1, index.twin)
        assert evaluate is index.twin or evaluate({}, NOW) == ((1 << count) - 1, 0)


BAD = {"tables": (), "clauses": (), "whose": (), "conditions": 1, "words": 1, "limit": 1, "twin": None}


@pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))
@pytest.mark.parametrize(
    "wrong",
    [
        {"words": 0},
        {"words": 10_000},
        {"conditions": 65},
        {"conditions": -1},
        {"tables": ((),)},
        {"tables": (("x", 0, b"", b"", bytes(8), abs),)},
        {"tables": (("x", 0, bytes(8), bytes(8), bytes(8), abs),)},
        {"tables": (("x", 1, b"", b"", bytes(9), abs),)},
        {"tables": (("x", 7, b"", b"", bytes(8), abs),)},
        {"tables": (("x", -1, b"", b"", bytes(8), abs),)},
        {"clauses": ((0, bytes(7)),), "whose": (bytes(8),)},
        {"clauses": ((2, bytes(8)),), "whose": (bytes(8),)},
        {"clauses": ((9, ()),), "whose": (bytes(8),)},
        {"clauses": ((0, bytes(8)),), "whose": (bytes(7),)},
        {"clauses": ((0, bytes(8)),)},
        {"clauses": ((2, ((2, ()), 5)),), "whose": (bytes(8),)},
    ],
)
def test_tables_that_lead_nowhere_are_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        native(NATIVE, VERSION).Evaluator(**{**BAD, **wrong})


@pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))
@pytest.mark.parametrize("cell", [lambda value, now: b"", lambda value, now: None, lambda value, now: 1 / 0])
def test_cells_of_another_size_are_refused(cell):
    for kind in (1, 2):
        made = native(NATIVE, VERSION).Evaluator(**{**BAD, "tables": (("x", kind, b"", b"", bytes(8), cell),)})
        with pytest.raises((ValueError, ZeroDivisionError)):
            made.evaluate({"x": 1}, NOW)
        with pytest.raises(TypeError):
            made.evaluate({"x": 1})


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
