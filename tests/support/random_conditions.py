"""Random conditions and random users, and a naive interpreter written straight from the documented meaning."""

from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test
from decisioning.domain import Value

NOW = 1_800_000_000.0
DAY = 86_400.0


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
HALVES = st.integers(-4, 4).map(lambda n: n / 2)
some_tiers = st.lists(st.sampled_from(TIERS), min_size=1, unique=True).map(tuple)
some_addons = st.lists(st.sampled_from(ADDONS), min_size=1, unique=True).map(tuple)
RANGES = st.sampled_from([Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW])

tests = st.one_of(
    st.builds(Test, st.just("tier"), st.sampled_from([Op.IS, Op.IS_NOT]), some_tiers),
    st.builds(Test, st.just("student"), st.sampled_from([Op.IS, Op.IS_NOT]), st.booleans().map(lambda b: (b,))),
    st.builds(Test, st.just("sessions"), RANGES, SMALL),
    st.builds(Test, st.just("sessions"), st.sampled_from([Op.IS, Op.IS_NOT]), st.lists(SMALL, min_size=1).map(tuple)),
    st.builds(Test, st.just("minutes"), RANGES, HALVES),
    st.builds(Test, st.just("addons"), st.sampled_from([Op.HAS, Op.HAS_ANY, Op.LACKS]), some_addons),
    st.builds(
        Test, st.just("joined"), st.sampled_from([Op.WITHIN, Op.OLDER_THAN]), st.integers(-2, 3).map(DAY.__mul__)
    ),
    st.builds(Test, st.just("app"), st.sampled_from([Op.VERSION_MIN, Op.VERSION_BELOW]), st.sampled_from(VERSIONS)),
    st.builds(
        Test,
        st.sampled_from(["tier", "student", "sessions", "minutes", "addons", "joined", "app"]),
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
    "minutes": HALVES | st.floats(-3, 3),
    "addons": st.frozensets(st.sampled_from(ADDONS)),
    "joined": st.integers(-2, 4).map(lambda days: NOW - days * DAY),
    "app": st.sampled_from(VERSIONS),
}
facts = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in known.items()})
FEATURES = {
    "tier": FeatureSpec("tier", FeatureType.ENUM, TIERS),
    "student": FeatureSpec("student", FeatureType.BOOL),
    "sessions": FeatureSpec("sessions", FeatureType.INT),
    "minutes": FeatureSpec("minutes", FeatureType.FLOAT),
    "addons": FeatureSpec("addons", FeatureType.SET, ADDONS),
    "joined": FeatureSpec("joined", FeatureType.TIME),
    "app": FeatureSpec("app", FeatureType.TEXT, from_context=True),
}
complete_facts = st.fixed_dictionaries(known)
