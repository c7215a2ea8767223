"""Conditions: what they mean, how they explain themselves, and that the compiled form means the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Op,
    Test,
    duration,
    first_failure,
    holds,
    negate,
    reads,
    version,
    words,
)
from decisioning.domain import Place, Value

NOW = 1_800_000_000.0
DAY = 86_400.0


# --- A naive interpreter, written straight from the documented meaning ------------------------------------------------


def naive(condition: Condition, values: dict[str, Value], now: float) -> bool:
    if isinstance(condition, AllOf):
        return all(naive(child, values, now) for child in condition.children)
    if isinstance(condition, AnyOf):
        return any(naive(child, values, now) for child in condition.children)
    found = values.get(condition.feature)
    if condition.op is Op.MISSING:
        return found is None
    if found is None:
        return False
    return naive_test(condition.op, condition.value, found, now)


def naive_test(op: Op, wanted, found, now: float) -> bool:
    numbers = [int(part) for part in found.split(".")] if op in (Op.VERSION_MIN, Op.VERSION_BELOW) else []
    least = [int(part) for part in wanted.split(".")] if numbers else []
    return {
        Op.IS: lambda: any(found == value for value in wanted),
        Op.IS_NOT: lambda: all(found != value for value in wanted),
        Op.MIN: lambda: found >= wanted,
        Op.MAX: lambda: found <= wanted,
        Op.ABOVE: lambda: found > wanted,
        Op.BELOW: lambda: found < wanted,
        Op.HAS: lambda: all(name in found for name in wanted),
        Op.HAS_ANY: lambda: any(name in found for name in wanted),
        Op.LACKS: lambda: not any(name in found for name in wanted),
        Op.WITHIN: lambda: now - found <= wanted,
        Op.OLDER_THAN: lambda: now - found > wanted,
        Op.VERSION_MIN: lambda: padded(numbers) >= padded(least),
        Op.VERSION_BELOW: lambda: padded(numbers) < padded(least),
        Op.PRESENT: lambda: True,
    }[op]()


def padded(numbers: list[int]) -> list[int]:
    return numbers + [0] * (8 - len(numbers))


TIERS = ("free", "basic", "premium")
ADDONS = ("audiobooks", "hifi", "karaoke")
VERSIONS = ("8", "8.0.0", "8.9", "8.10", "9.1.2")
SMALL = st.integers(-3, 3)
some_tiers = st.lists(st.sampled_from(TIERS), min_size=1, unique=True).map(tuple)
some_addons = st.lists(st.sampled_from(ADDONS), min_size=1, unique=True).map(tuple)
RANGES = st.sampled_from([Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW])

tests = st.one_of(
    st.builds(Test, st.just("tier"), st.sampled_from([Op.IS, Op.IS_NOT]), some_tiers),
    st.builds(Test, st.just("student"), st.sampled_from([Op.IS, Op.IS_NOT]), st.booleans().map(lambda b: (b,))),
    st.builds(Test, st.just("sessions"), RANGES, SMALL),
    st.builds(Test, st.just("addons"), st.sampled_from([Op.HAS, Op.HAS_ANY, Op.LACKS]), some_addons),
    st.builds(
        Test, st.just("joined"), st.sampled_from([Op.WITHIN, Op.OLDER_THAN]), st.integers(-2, 3).map(DAY.__mul__)
    ),
    st.builds(Test, st.just("app"), st.sampled_from([Op.VERSION_MIN, Op.VERSION_BELOW]), st.sampled_from(VERSIONS)),
    st.builds(
        Test,
        st.sampled_from(["tier", "student", "sessions", "addons", "joined", "app"]),
        st.sampled_from([Op.MISSING, Op.PRESENT]),
    ),
)
conditions = st.recursive(
    tests,
    lambda inner: st.builds(
        lambda kind, children: kind(tuple(children)), st.sampled_from([AllOf, AnyOf]), st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)
known = {
    "tier": st.sampled_from(TIERS),
    "student": st.booleans(),
    "sessions": SMALL,
    "addons": st.frozensets(st.sampled_from(ADDONS)),
    "joined": st.integers(-2, 4).map(lambda days: NOW - days * DAY),
    "app": st.sampled_from(VERSIONS),
}
facts = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in known.items()})
complete_facts = st.fixed_dictionaries(known)


@given(conditions, facts)
def test_the_compiled_condition_and_a_naive_interpreter_agree(condition, values):
    assert holds(condition, values, NOW) is naive(condition, values, NOW)


@given(conditions, complete_facts)
def test_negation_is_exact_when_everything_is_known(condition, values):
    assert holds(negate(condition), values, NOW) is not holds(condition, values, NOW)


@given(tests, facts)
def test_a_missing_value_fails_in_both_polarities(test, values):
    if values.get(test.feature) is None and test.op not in (Op.MISSING, Op.PRESENT):
        assert not holds(test, values, NOW)
        assert not holds(negate(test), values, NOW)


@given(conditions, facts)
def test_there_is_a_failure_to_tell_exactly_when_a_condition_does_not_hold(condition, values):
    failure = first_failure(condition, values, NOW)
    assert (failure is None) is holds(condition, values, NOW)
    assert failure is None or failure.detail


@given(conditions, facts)
def test_a_condition_reads_no_more_than_it_says(condition, values):
    trimmed = {name: value for name, value in values.items() if name in reads(condition)}
    assert holds(condition, trimmed, NOW) is holds(condition, values, NOW)


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
            Test("tier", Op.IS, ("free",)),
            AnyOf((Test("sessions_7d", Op.MIN, 3), Test("is_student", Op.IS, (True,)))),
            Test("addons", Op.LACKS, ("hifi",)),
            Test("joined", Op.OLDER_THAN, 36 * 3600.0),
        )
    )
    assert words(condition) == (
        "tier is free and (sessions_7d is at least 3 or is_student is true) and addons has no hifi "
        "and joined was more than 36h ago"
    )


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


@pytest.mark.parametrize(
    ("seconds", "text"), [(36 * 3600, "36h"), (14 * DAY, "14d"), (0.03, "30ms"), (90, "90s"), (100_000.5, "1.2d")]
)
def test_durations_read_as_they_are_written(seconds, text):
    assert duration(seconds) == text
