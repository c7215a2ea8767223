"""The proof behind invariants agrees with trying everything."""

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.satisfiable import satisfiable

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


def test_long_lists_are_no_matter_of_recursion():
    many = AllOf(tuple(Test("sessions", Op.IS_NOT, (n,)) for n in range(1_100)))
    assert satisfiable(many, FEATURES)
