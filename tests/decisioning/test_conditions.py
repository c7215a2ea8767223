"""Conditions: what they mean, and that the compiled form means the same."""

import pytest
from hypothesis import given
from random_conditions import NOW, complete_facts, conditions, facts, naive, tests

from decisioning.conditions import Op, Test, complement, holds, negate, reads, version


@given(conditions, facts)
def test_the_compiled_condition_and_a_naive_interpreter_agree(condition, values):
    assert holds(condition, values, NOW) is naive(condition, values, NOW)


@given(conditions, complete_facts)
def test_negation_is_exact_when_everything_is_known(condition, values):
    assert holds(negate(condition), values, NOW) is not holds(condition, values, NOW)


@given(conditions, facts)
def test_the_complement_holds_wherever_the_condition_does_not(condition, values):
    if not holds(condition, values, NOW):
        assert holds(complement(condition), values, NOW)
    elif "version" not in str(condition):
        assert not holds(complement(condition), values, NOW)


@given(tests, facts)
def test_a_missing_value_fails_in_both_polarities(test, values):
    if values.get(test.feature) is None and test.op not in (Op.MISSING, Op.PRESENT):
        assert not holds(test, values, NOW)
        assert not holds(negate(test), values, NOW)


@given(conditions, facts)
def test_a_condition_reads_no_more_than_it_says(condition, values):
    trimmed = {name: value for name, value in values.items() if name in reads(condition)}
    assert holds(condition, trimmed, NOW) is holds(condition, values, NOW)


@pytest.mark.parametrize(
    ("text", "numbers"), [("8.9.0", (8, 9)), ("8.10", (8, 10)), ("v9-beta", (9,)), ("nightly", None), (None, None)]
)
def test_a_version_is_its_leading_numbers(text, numbers):
    assert version(text) == numbers


def test_text_that_is_no_version_fails_in_both_polarities():
    test = Test("app", Op.VERSION_MIN, "8.9")
    assert not holds(test, {"app": "nightly"}, NOW)
    assert not holds(negate(test), {"app": "nightly"}, NOW)


def test_text_from_the_catalog_never_becomes_code():
    hostile = "'); raise SystemExit  #"
    assert holds(Test(hostile, Op.IS, (hostile,)), {hostile: hostile}, NOW)
