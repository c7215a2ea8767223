"""Whether any user at all could meet a condition: the proof behind the catalog's invariants.

Each test speaks of one feature, so a conjunction of tests can be met exactly when its tests of each feature can. The
search tries the alternatives of `AnyOf` one by one and stops at the first that can be met.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import inf
from typing import Any

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test, version
from decisioning.domain import Value

MAX_STEPS = 20_000


class TooManyAlternatives(Exception):
    """The search was given up: nothing is proved either way."""


def satisfiable(condition: Condition, features: Mapping[str, FeatureSpec]) -> bool:
    """False only when no values of the features meet the condition.

    Exact for conditions of the catalog's language, but for a time that is compared both with a date and with now,
    which is taken to be possible. Raises TooManyAlternatives after 20,000 steps.
    """
    # A stack of what is still to be met with what was chosen so far, rather than recursion: lists can be long.
    branches: list[tuple[tuple[Condition, ...], Mapping[str, tuple[Test, ...]]]] = [((condition,), {})]
    for _ in range(MAX_STEPS):
        if not branches:
            return False
        pending, chosen = branches.pop()
        if not pending:
            return True
        # Alternatives last: by then the plain tests have ruled most of them out.
        first = next((c for c in pending if not isinstance(c, AnyOf)), pending[0])
        rest = tuple(c for c in pending if c is not first)
        if isinstance(first, AllOf):
            branches.append((first.children + rest, chosen))
        elif isinstance(first, AnyOf):
            branches += [((child, *rest), chosen) for child in reversed(first.children)]
        else:
            tests = (*chosen.get(first.feature, ()), first)
            if _possible(features[first.feature], tests):
                branches.append((rest, {**chosen, first.feature: tests}))
    raise TooManyAlternatives


def possible(condition: Condition, features: Mapping[str, FeatureSpec]) -> bool:
    """Like `satisfiable`, but what could not be settled in time counts as possible."""
    try:
        return satisfiable(condition, features)
    except TooManyAlternatives:
        return True


def _possible(spec: FeatureSpec, tests: tuple[Test, ...]) -> bool:
    """Whether one value of the feature, or its being missing, passes all the tests."""
    if any(test.op is Op.MISSING for test in tests):
        return spec.default is None and all(test.op is Op.MISSING for test in tests)
    match spec.type:
        case FeatureType.BOOL:
            return _some((True, False), tests)
        case FeatureType.ENUM:
            return _some(spec.values, tests)
        case FeatureType.SET:
            return _set_possible(tests)
        case FeatureType.TEXT:
            return _text_possible(tests)
        case _:
            return _number_possible(spec, tests)


def _some(candidates: Iterable[Value], tests: tuple[Test, ...]) -> bool:
    """Whether one of the candidates passes every test."""
    return any(all(_PASSES[test.op](candidate, test.value) for test in tests) for candidate in candidates)


# Interpreted rather than compiled: each test is asked a few times here, and compiling costs a thousand times as much.
_PASSES: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.IS: lambda found, values: found in values,
    Op.IS_NOT: lambda found, values: found not in values,
    Op.MIN: operator.ge,
    Op.MAX: operator.le,
    Op.ABOVE: operator.gt,
    Op.BELOW: operator.lt,
    Op.VERSION_MIN: lambda found, least: (numbers := version(found)) is not None and numbers >= _numbers(least),
    Op.VERSION_BELOW: lambda found, least: (numbers := version(found)) is not None and numbers < _numbers(least),
    Op.PRESENT: lambda found, _: True,
}


def _numbers(text: Value) -> tuple[int, ...]:
    return version(text) or ()


def _set_possible(tests: tuple[Test, ...]) -> bool:
    lacking = {name for test in tests if test.op is Op.LACKS for name in test.value}
    having = {name for test in tests if test.op is Op.HAS for name in test.value}
    alternatives = [set(test.value) for test in tests if test.op is Op.HAS_ANY]
    return not having & lacking and all(names - lacking for names in alternatives)


def _text_possible(tests: tuple[Test, ...]) -> bool:
    named = [test.value for test in tests if test.op is Op.IS]
    if named:
        return _some(named[0], tests)
    least = max((_numbers(test.value) for test in tests if test.op is Op.VERSION_MIN), default=())
    below = [_numbers(test.value) for test in tests if test.op is Op.VERSION_BELOW]
    return not below or least < min(below)


def _number_possible(spec: FeatureSpec, tests: tuple[Test, ...]) -> bool:
    named = [test.value for test in tests if test.op is Op.IS]
    absolute = tuple(test for test in tests if test.op not in (Op.WITHIN, Op.OLDER_THAN))
    if named:
        return _some(named[0], absolute)
    youngest = max((test.value for test in tests if test.op is Op.OLDER_THAN), default=-inf)
    oldest = min((test.value for test in tests if test.op is Op.WITHIN), default=inf)
    if oldest <= youngest:
        return False
    low = max((test.value for test in tests if test.op in (Op.MIN, Op.ABOVE)), default=-inf)
    high = min((test.value for test in tests if test.op in (Op.MAX, Op.BELOW)), default=inf)
    if low > high:
        return False
    if spec.type is not FeatureType.INT:
        # Between two different numbers there are more than any list can exclude.
        return low < high or _some((low,), absolute)
    if low == -inf or high == inf:
        return True
    # One more candidate than could be excluded by name or by a strict end is enough.
    excluded = sum(len(test.value) for test in absolute if test.op is Op.IS_NOT)
    return _some(islice(range(int(low), int(high) + 1), excluded + 3), absolute)
