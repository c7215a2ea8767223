"""The proof behind invariants agrees with trying everything."""

from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning import proofs as proofs_module
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.proofs import Proofs
from decisioning.satisfiable import TooManyAlternatives, satisfiable

TIERS, ADDONS = ("free", "basic", "premium"), ("books", "hifi")
FEATURES = {
    "tier": FeatureSpec("tier", FeatureType.ENUM, TIERS),
    "student": FeatureSpec("student", FeatureType.BOOL),
    "sessions": FeatureSpec("sessions", FeatureType.INT, default=0),
    "addons": FeatureSpec("addons", FeatureType.SET, ADDONS),
}
# Tests name numbers from -2 to 2, so whatever is possible is possible between -5 and 5.
DOMAINS = {
    "tier": (None, *TIERS),
    "student": (None, True, False),
    "sessions": tuple(range(-5, 6)),
    "addons": (None, *(frozenset(some) for size in range(3) for some in combinations(ADDONS, size))),
}
EVERYONE = [dict(zip(DOMAINS, values, strict=True)) for values in product(*DOMAINS.values())]


def some(values):
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


equality = st.sampled_from([Op.IS, Op.IS_NOT])
ranges = st.sampled_from([Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW])
tests = st.one_of(
    st.builds(Test, st.just("tier"), equality, some(TIERS)),
    st.builds(Test, st.just("student"), equality, some((True, False))),
    st.builds(Test, st.just("sessions"), equality, some((-1, 0, 1))),
    st.builds(Test, st.just("sessions"), ranges, st.integers(-2, 2)),
    st.builds(Test, st.just("addons"), st.sampled_from([Op.HAS, Op.HAS_ANY, Op.LACKS]), some(ADDONS)),
    st.builds(Test, st.sampled_from(sorted(FEATURES)), st.sampled_from([Op.MISSING, Op.PRESENT])),
)
conditions = st.recursive(
    tests,
    lambda inner: st.builds(
        lambda kind, children: kind(tuple(children)), st.sampled_from([AllOf, AnyOf]), st.lists(inner, max_size=5)
    ),
    max_leaves=14,
)


@given(conditions)
def test_a_condition_is_satisfiable_exactly_when_somebody_meets_it(condition):
    assert satisfiable(condition, FEATURES) is any(holds(condition, values, 0.0) for values in EVERYONE)


ORDERED = {
    "minutes": FeatureSpec("minutes", FeatureType.FLOAT),
    "app": FeatureSpec("app", FeatureType.TEXT, from_context=True),
}
VERSIONS = ("7", "8.4", "8.5", "9")
HALVES = [half / 2 for half in range(-6, 7)]
SOMEBODY = [
    {"minutes": minutes, "app": app} for minutes in (None, *HALVES) for app in (None, *VERSIONS, "6", "8.4.1", "10")
]
numbers = st.integers(-2, 2).map(float)
ordered = st.one_of(
    st.builds(Test, st.just("minutes"), equality, st.lists(numbers, min_size=1, max_size=3, unique=True).map(tuple)),
    st.builds(Test, st.just("minutes"), ranges, numbers),
    st.builds(Test, st.just("app"), equality, some(VERSIONS)),
    st.builds(Test, st.just("app"), st.sampled_from([Op.VERSION_MIN, Op.VERSION_BELOW]), st.sampled_from(VERSIONS)),
    st.builds(Test, st.sampled_from(sorted(ORDERED)), st.sampled_from([Op.MISSING, Op.PRESENT])),
)


@given(st.lists(st.lists(ordered, min_size=1, max_size=3).map(tuple), min_size=1, max_size=5))
def test_numbers_and_versions_in_ranges_are_proved_as_well(several):
    condition = AllOf(tuple(AnyOf(one) if len(one) > 1 else one[0] for one in several))
    assert satisfiable(condition, ORDERED) is any(holds(condition, values, 0.0) for values in SOMEBODY)


def test_alternatives_that_have_nothing_to_do_with_a_contradiction_do_not_hide_it():
    features = {f"n{n}": FeatureSpec(f"n{n}", FeatureType.INT) for n in range(60)}
    either = [AnyOf((Test(f"n{n}", Op.IS, (0,)), Test(f"n{n}", Op.IS, (1,)))) for n in range(60)]
    last = [
        AnyOf((Test("n59", Op.IS, (0, 2)), Test("n58", Op.IS, (5,)))),
        AnyOf((Test("n59", Op.ABOVE, 0), either[57])),
    ]
    both = AllOf((*either, *last, AnyOf((Test("n57", Op.ABOVE, 1), Test("n59", Op.IS, (0, 3))))))
    assert satisfiable(both, features)
    assert not satisfiable(AllOf((both, Test("n57", Op.IS, (7,)))), features)
    assert not satisfiable(AllOf((both, AnyOf((Test("n59", Op.IS, (7,)), Test("n59", Op.IS, (8,)))))), features)


def test_each_thing_is_proved_once_and_small_proofs_are_always_made(monkeypatch):
    monkeypatch.setattr(proofs_module, "MAX_TOGETHER", 60_000)
    features = {f"n{n}": FeatureSpec(f"n{n}", FeatureType.INT) for n in range(12)}
    wants = [AnyOf(tuple(Test(f"n{n}", Op.IS, (pigeon,)) for n in range(12))) for pigeon in range(13)]
    proofs, hard = Proofs(features), AllOf(tuple(wants))
    while not proofs.is_spent:
        assert proofs.possible(hard, Test("n0", Op.MAX, proofs._left))  # not proved: too many pigeons
    simple = AllOf((Test("n0", Op.MIN, 3), Test("n0", Op.MAX, 2)))
    assert not proofs.satisfiable(simple)
    with pytest.raises(TooManyAlternatives):
        proofs.satisfiable(simple, at_least=0)
    assert proofs.possible(simple)  # for all that can be told

    fresh = Proofs(features)
    assert not fresh.possible(*simple.children)
    left = fresh._left
    assert not fresh.possible(*reversed([replace(test) for test in simple.children]))
    assert fresh._left == left


def test_long_lists_are_no_matter_of_recursion():
    many = AllOf(tuple(Test("sessions", Op.IS_NOT, (n,)) for n in range(1_100)))
    assert satisfiable(many, FEATURES)
