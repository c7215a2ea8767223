"""What a user would have to be for some conditions to hold: the tests to meet, and the nearest values that do.

Asked only when a decision is explained. Tests are interpreted, as most are asked a few times: compiling costs more.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import Any

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test, negate, version
from decisioning.domain import Value

MAX_STEPS = 1_000
"""Partial ways to meet the conditions that are looked at."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What would have to be otherwise."""

    tests: tuple[Test, ...]
    """What the features that change have to meet."""
    values: Mapping[str, Value]
    """What does, as near as can be to what is; None for a feature that would have to be missing."""


def avoided(condition: Condition) -> Condition:
    """What keeps a condition from holding: being known to be otherwise, or missing."""
    if isinstance(condition, AllOf):
        return AnyOf(tuple(map(avoided, condition.children)), condition.place)
    if isinstance(condition, AnyOf):
        return AllOf(tuple(map(avoided, condition.children)), condition.place)
    if condition.op in (Op.MISSING, Op.PRESENT):
        return negate(condition)
    return AnyOf((negate(condition), Test(condition.feature, Op.MISSING, None, condition.place)), condition.place)


def nearest(
    conditions: Sequence[Condition], values: Mapping[str, Value], features: Mapping[str, FeatureSpec], now: float
) -> Witness | None:
    """The way to meet all conditions that changes the fewest features; None where none was found."""
    best: Witness | None = None
    for way in _ways(conditions, values, features, now):
        found = _changed(way, values, features, now)
        if found is not None and (best is None or len(found.values) < len(best.values)):
            best = found
            if len(best.values) <= 1:
                break
    return best


def _ways(
    conditions: Sequence[Condition], values: Mapping[str, Value], features: Mapping[str, FeatureSpec], now: float
) -> Iterator[Mapping[str, tuple[Test, ...]]]:
    """The ways to meet all conditions: the tests of each feature. Alternatives that hold already come first."""
    branches: list[tuple[tuple[Condition, ...], Mapping[str, tuple[Test, ...]]]] = [(tuple(conditions), {})]
    for _ in range(MAX_STEPS):
        if not branches:
            return
        pending, chosen = branches.pop()
        if not pending:
            yield chosen
            continue
        first = next((c for c in pending if not isinstance(c, AnyOf)), pending[0])
        rest = tuple(c for c in pending if c is not first)
        if isinstance(first, AllOf):
            branches.append((first.children + rest, chosen))
        elif isinstance(first, AnyOf):
            children = sorted(first.children, key=lambda child: not _holds(child, values, now))
            branches += [((child, *rest), chosen) for child in reversed(children)]
        else:
            tests = (*chosen.get(first.feature, ()), first)
            if _value(features[first.feature], tests, values.get(first.feature), now) is not _NO_VALUE:
                branches.append((rest, {**chosen, first.feature: tests}))


def _changed(
    way: Mapping[str, tuple[Test, ...]], values: Mapping[str, Value], features: Mapping[str, FeatureSpec], now: float
) -> Witness | None:
    """What has to change."""
    told: list[Test] = []
    found: dict[str, Value] = {}
    for name, tests in way.items():
        old = values.get(name)
        if all(_passes(test, old, now) for test in tests):
            continue
        value = _value(features[name], tests, old, now)
        if value is _NO_VALUE:
            return None
        found[name] = value
        told += _said(features[name], tests, old, now, value)
    return Witness(tuple(told), found)


def _said(spec: FeatureSpec, tests: Sequence[Test], old: Value, now: float, value: Value) -> Sequence[Test]:
    """Tests said briefly: by the values that pass, where they are few; or without those that the others bring about."""
    known = {FeatureType.ENUM: spec.values, FeatureType.BOOL: (False, True)}.get(spec.type)
    if known is not None and value is not None:
        may = tuple(one for one in known if all(_passes(test, one, now) for test in tests))
        others = tuple(one for one in known if one not in may)
        if not others:
            return [Test(spec.name, Op.PRESENT)]
        return [Test(spec.name, Op.IS, may) if len(may) <= len(others) else Test(spec.name, Op.IS_NOT, others)]
    needed = list(dict.fromkeys(tests))
    for test in tuple(needed):
        rest = [other for other in needed if other != test]
        if rest and _value(spec, rest, old, now) == value:
            needed = rest
    return needed


# --- Values -----------------------------------------------------------------------------------------------------------

_NO_VALUE: Any = object()


def _value(spec: FeatureSpec, tests: Sequence[Test], old: Value, now: float) -> Any:
    """The value nearest to the old one that passes all tests: None for missing, `_NO_VALUE` where there is none."""
    candidates = _candidates(spec, tests, old, now)
    return next((value for value in candidates if all(_passes(test, value, now) for test in tests)), _NO_VALUE)


def _candidates(spec: FeatureSpec, tests: Sequence[Test], old: Value, now: float) -> Iterator[Value]:
    yield old
    match spec.type:
        case FeatureType.BOOL:
            yield from (True, False)
        case FeatureType.ENUM:
            yield from _named(tests)
            yield from spec.values
        case FeatureType.SET:
            yield _set(tests, old if isinstance(old, frozenset) else frozenset())
        case FeatureType.TEXT:
            yield from _named(tests)
            yield from (test.value for test in tests if test.op is Op.VERSION_MIN)
            yield from ("0", "other")
        case _:
            yield from _numbers(spec, tests, old, now)
    if spec.default is None:
        yield None


def _named(tests: Iterable[Test]) -> Iterator[Value]:
    for test in tests:
        if test.op is Op.IS:
            yield from test.value


def _set(tests: Iterable[Test], old: frozenset[str]) -> frozenset[str]:
    """The old one without what it must lack, with what it must have."""
    lacking = {name for test in tests if test.op is Op.LACKS for name in test.value}
    having = {name for test in tests if test.op is Op.HAS for name in test.value}
    found = (old - lacking) | having
    for test in tests:
        if test.op is Op.HAS_ANY and found.isdisjoint(test.value):
            found |= {next((name for name in test.value if name not in lacking), test.value[0])}
    return found


def _numbers(spec: FeatureSpec, tests: Sequence[Test], old: Value, now: float) -> list[Value]:
    """The numbers at which a test may change its mind, and their neighbours: the nearest to the old one first."""
    points: list[float] = [0.0]
    for test in tests:
        if test.op in (Op.WITHIN, Op.OLDER_THAN):
            points.append(now - test.value)
        elif test.op not in (Op.MISSING, Op.PRESENT):
            points += test.value if isinstance(test.value, tuple) else (test.value,)
    reach = 2 + sum(len(test.value) for test in tests if test.op is Op.IS_NOT)
    found = {point + step for point in points for step in range(-reach, reach + 1)}
    if spec.type is not FeatureType.INT:
        found |= {nextafter(point, way) for point in points for way in (-inf, inf)}
        found |= {(one + other) / 2 for one in points for other in points}
    near = float(old) if isinstance(old, int | float) else points[-1]
    ordered = sorted(found, key=lambda number: (abs(number - near), number))
    return [int(number) for number in ordered] if spec.type is FeatureType.INT else list(ordered)


# --- Tests ------------------------------------------------------------------------------------------------------------


def _holds(condition: Condition, values: Mapping[str, Value], now: float) -> bool:
    if isinstance(condition, Test):
        return _passes(condition, values.get(condition.feature), now)
    outcomes = (_holds(child, values, now) for child in condition.children)
    return all(outcomes) if isinstance(condition, AllOf) else any(outcomes)


def _passes(test: Test, found: Value, now: float) -> bool:
    """Like `conditions.holds`, of one test."""
    if found is None:
        return test.op is Op.MISSING
    return test.op is not Op.MISSING and _PASSES[test.op](found, test.value, now)


_PASSES: Mapping[Op, Callable[[Any, Any, float], bool]] = {
    Op.IS: lambda found, values, _: found in values,
    Op.IS_NOT: lambda found, values, _: found not in values,
    Op.MIN: lambda found, least, _: found >= least,
    Op.MAX: lambda found, most, _: found <= most,
    Op.ABOVE: lambda found, bound, _: found > bound,
    Op.BELOW: lambda found, bound, _: found < bound,
    Op.HAS: lambda found, names, _: found.issuperset(names),
    Op.HAS_ANY: lambda found, names, _: not found.isdisjoint(names),
    Op.LACKS: lambda found, names, _: found.isdisjoint(names),
    Op.WITHIN: lambda found, span, now: now - found <= span,
    Op.OLDER_THAN: lambda found, span, now: now - found > span,
    Op.VERSION_MIN: lambda found, least, _: _compared(found, least, operator.ge),
    Op.VERSION_BELOW: lambda found, bound, _: _compared(found, bound, operator.lt),
    Op.PRESENT: lambda found, _, __: True,
}


def _compared(found: str, wanted: str, compare: Callable[[tuple[int, ...], tuple[int, ...]], bool]) -> bool:
    numbers = version(found)
    return numbers is not None and compare(numbers, version(wanted) or ())
