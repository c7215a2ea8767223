"""Conditions in words: how they read, and how they explain that they do not hold."""

import pytest
from hypothesis import given
from random_conditions import DAY, NOW, conditions, facts

from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.domain import Place
from decisioning.words import duration, first_failure, words


@given(conditions, facts)
def test_there_is_a_failure_to_tell_exactly_when_a_condition_does_not_hold(condition, values):
    failure = first_failure(condition, values, NOW)
    assert (failure is None) is holds(condition, values, NOW)
    assert failure is None or failure.detail


@given(conditions)
def test_every_condition_has_words(condition):
    assert words(condition)


@pytest.mark.parametrize(
    ("test", "found", "detail"),
    [
        (Test("sessions_7d", Op.MIN, 3), 1, "sessions_7d is 1, needs at least 3"),
        (Test("age", Op.BELOW, 18), 18, "age is 18, needs less than 18"),
        (Test("minutes", Op.ABOVE, 2.5), 2.5, "minutes is 2.5, needs more than 2.5"),
        (Test("country", Op.IS, ("US", "GB", "SE")), "BR", "country is BR, needs one of US, GB, SE"),
        (Test("tier", Op.IS, ("free",)), "premium", "tier is premium, needs free"),
        (Test("tier", Op.IS, ("free",)), None, "tier is missing"),
        (Test("device", Op.IS_NOT, ("tv",)), "tv", "device is tv, needs anything but tv"),
        (Test("is_student", Op.IS, (True,)), False, "is_student is false, needs true"),
        (Test("addons", Op.HAS, ("hifi",)), frozenset({"a", "b"}), "addons is [a, b], needs hifi"),
        (Test("addons", Op.LACKS, ("a",)), frozenset({"a"}), "addons is [a], needs no a"),
        (Test("joined", Op.WITHIN, 7 * DAY), NOW - 9 * DAY, "joined was 9d ago, needs at most 7d ago"),
        (Test("app", Op.VERSION_MIN, "8.9"), "8.8.1", "app is 8.8.1, needs version 8.9 or later"),
        (Test("tier", Op.MISSING), "free", "tier is free, needs to be missing"),
        (Test("tier", Op.PRESENT), None, "tier is missing"),
    ],
)
def test_a_failure_is_one_plain_clause_with_the_value_found(test, found, detail):
    failure = first_failure(test, {test.feature: found}, NOW)
    assert failure is not None
    assert failure.detail == detail


def test_the_first_failing_clause_is_the_one_told_with_its_place():
    second = Test("sessions", Op.MIN, 3, Place("offers.yaml", 11))
    third = Test("age", Op.MIN, 18, Place("offers.yaml", 12))
    condition = AllOf((Test("tier", Op.IS, ("free",)), second, third))
    failure = first_failure(condition, {"tier": "free", "sessions": 1, "age": 3}, NOW)
    assert failure is not None
    assert str(failure.place) == "offers.yaml:11"


def test_when_no_alternative_holds_all_are_told():
    condition = AnyOf((Test("sessions", Op.MIN, 3), Test("skips", Op.MIN, 2)), Place("a.yaml", 4))
    failure = first_failure(condition, {"sessions": 1}, NOW)
    assert failure is not None
    assert failure.detail == "sessions is 1, needs at least 3, and skips is missing (one of them would do)"
    assert failure.place.line == 4


def test_words_read_like_a_sentence():
    condition = AllOf(
        (
            AllOf((Test("tier", Op.IS, ("free",)), Test("plan", Op.PRESENT))),
            AnyOf((Test("sessions_7d", Op.MIN, 3), Test("is_student", Op.IS, (True,)))),
            Test("addons", Op.LACKS, ("hifi",)),
            Test("joined", Op.OLDER_THAN, 36 * 3600.0),
        )
    )
    assert words(condition) == (
        "tier is free and plan is known and (sessions_7d is at least 3 or is_student is true) and addons has no hifi "
        "and joined was more than 36h ago"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(36 * 3600, "36h"), (14 * DAY, "14d"), (0.03, "30ms"), (90, "90s"), (100_000.5, "1.2d")]
)
def test_durations_read_as_they_are_written(seconds, text):
    assert duration(seconds) == text
