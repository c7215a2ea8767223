"""Whether any user at all could meet a condition: the proof behind the catalog's invariants.

Each test speaks of one feature, so a conjunction of tests can be met exactly when its tests of each feature can. What
they leave of each `AnyOf` is settled first. Only alternatives that are still open are tried one by one, those that
share no feature apart from one another, and the search stops at the first way that works.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AnyOf, Condition, Op, Test, conjuncts, reads, version
from decisioning.domain import Value

MAX_STEPS = 50_000
"""How many tests are weighed for one proof, long lists counting for more: about a tenth of a second."""

Tests = Mapping[str, tuple[Test, ...]]
"""What has to hold of each feature."""


class TooManyAlternatives(Exception):
    """The search was given up: nothing is proved either way."""


def satisfiable(condition: Condition, features: Mapping[str, FeatureSpec]) -> bool:
    """False only when no values of the features meet the condition.

    Exact for conditions of the catalog's language, but for a time that is compared both with a date and with now,
    which is taken to be possible. Raises TooManyAlternatives after `MAX_STEPS`.
    """
    return Search(features).finds(condition)


class Search:
    """One search for somebody who meets a condition. `left` counts its steps down."""

    def __init__(self, features: Mapping[str, FeatureSpec], steps: int = MAX_STEPS) -> None:
        self.features, self.left = features, steps

    def finds(self, condition: Condition) -> bool:
        """Whether somebody could meet the condition. Raises TooManyAlternatives when no steps are left."""
        settled = self._settled((condition,), {})
        if settled is None:
            return False
        known, open_ = settled
        return all(self._finds_way(part, known) for part in _apart(open_))

    def _finds_way(self, alternatives: Iterable[Condition], known: Tests) -> bool:
        # A stack of what is still to be met with what was chosen so far, rather than recursion: lists can be long.
        branches: list[tuple[tuple[Condition, ...], Tests]] = [(tuple(alternatives), known)]
        while branches:
            settled = self._settled(*branches.pop())
            if settled is None:
                continue
            chosen, open_ = settled
            if not open_:
                return True
            first = min(open_, key=lambda one: len(one.children))
            rest = tuple(one for one in open_ if one is not first)
            branches += [((child, *rest), chosen) for child in reversed(first.children)]
        return False

    def _settled(self, pending: tuple[Condition, ...], known: Tests) -> tuple[Tests, list[AnyOf]] | None:
        """The tests that have to hold, with the alternatives that they leave open; None where they leave no way."""
        chosen = dict(known)
        open_: list[AnyOf] = []
        while pending:
            plain, alternatives = _parted(pending)
            if not self._agree(plain, chosen):
                return None
            for name, tests in plain.items():
                chosen[name] = (*chosen.get(name, ()), *tests)
            pending, open_, unsettled = (), [], open_ + alternatives
            for one in unsettled:
                children = tuple(child for child in one.children if self._agree(_parted((child,))[0], chosen))
                if len(children) > 1:
                    open_.append(one if len(children) == len(one.children) else AnyOf(children))
                elif children:
                    pending += children
                else:
                    return None
        return chosen, open_

    def _agree(self, tests: Tests, known: Tests) -> bool:
        """Whether tests can hold together with those that have to."""
        self.left -= 1
        for name, some in tests.items():
            together = (*known.get(name, ()), *some)
            self.left -= sum(1 + len(one.value) // 16 if isinstance(one.value, tuple) else 1 for one in together)
            if self.left < 0:
                raise TooManyAlternatives
            if not _possible(self.features[name], together):
                return False
        return True


def _parted(conditions: Iterable[Condition]) -> tuple[dict[str, tuple[Test, ...]], list[AnyOf]]:
    """A conjunction's tests, by feature, and its alternatives."""
    plain: dict[str, tuple[Test, ...]] = {}
    alternatives: list[AnyOf] = []
    for part in (part for condition in conditions for part in conjuncts(condition)):
        if isinstance(part, Test):
            plain[part.feature] = (*plain.get(part.feature, ()), part)
        elif isinstance(part, AnyOf):
            alternatives.append(part)
    return plain, alternatives


def _apart(alternatives: Iterable[AnyOf]) -> Iterator[list[AnyOf]]:
    """Sets of alternatives that share no feature: whoever meets each of them meets all."""
    groups: list[tuple[frozenset[str], list[AnyOf]]] = []
    for one in alternatives:
        names, members = reads(one), [one]
        for group in [group for group in groups if group[0] & names]:
            names, members = names | group[0], group[1] + members
            groups.remove(group)
        groups.append((names, members))
    return (members for _, members in groups)


# --- One feature ------------------------------------------------------------------------------------------------------


def _possible(spec: FeatureSpec, tests: tuple[Test, ...]) -> bool:
    """Whether one value of the feature, or its being missing, passes all the tests."""
    if any(test.op is Op.MISSING for test in tests):
        return spec.default is None and all(test.op is Op.MISSING for test in tests)
    if spec.type is FeatureType.SET:
        return _set_possible(tests)
    excluded = {value for test in tests if test.op is Op.IS_NOT for value in test.value}
    named = [test.value for test in tests if test.op is Op.IS]
    if named:
        return _some(set(named[0]).intersection(*named[1:]) - excluded, tests)
    match spec.type:
        case FeatureType.BOOL:
            return len(excluded) < 2
        case FeatureType.ENUM:
            return not excluded.issuperset(spec.values)
        case FeatureType.TEXT:
            return _text_possible(tests)
        case FeatureType.INT:
            return _integer_possible(tests, excluded)
        case _:
            return _number_possible(tests, excluded)


def _some(candidates: Iterable[Value], tests: tuple[Test, ...]) -> bool:
    """Whether one of the candidates is in every range."""
    ranges = [(_PASSES[test.op], test.value) for test in tests if test.op in _PASSES]
    return any(all(passes(candidate, value) for passes, value in ranges) for candidate in candidates)


# Interpreted rather than compiled: each test is asked a few times here, and compiling costs a thousand times as much.
_PASSES: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.MIN: operator.ge,
    Op.MAX: operator.le,
    Op.ABOVE: operator.gt,
    Op.BELOW: operator.lt,
    Op.VERSION_MIN: lambda found, least: (numbers := version(found)) is not None and numbers >= _numbers(least),
    Op.VERSION_BELOW: lambda found, least: (numbers := version(found)) is not None and numbers < _numbers(least),
}


def _numbers(text: Value) -> tuple[int, ...]:
    return version(text) or ()


def _set_possible(tests: tuple[Test, ...]) -> bool:
    lacking = {name for test in tests if test.op is Op.LACKS for name in test.value}
    having = {name for test in tests if test.op is Op.HAS for name in test.value}
    alternatives = [set(test.value) for test in tests if test.op is Op.HAS_ANY]
    return not having & lacking and all(names - lacking for names in alternatives)


def _text_possible(tests: tuple[Test, ...]) -> bool:
    least = max((_numbers(test.value) for test in tests if test.op is Op.VERSION_MIN), default=())
    below = [_numbers(test.value) for test in tests if test.op is Op.VERSION_BELOW]
    return not below or least < min(below)


def _integer_possible(tests: tuple[Test, ...], excluded: set[Any]) -> bool:
    low = max((test.value + (test.op is Op.ABOVE) for test in tests if test.op in (Op.MIN, Op.ABOVE)), default=-inf)
    high = min((test.value - (test.op is Op.BELOW) for test in tests if test.op in (Op.MAX, Op.BELOW)), default=inf)
    if low > high:
        return False
    return low == -inf or high == inf or high - low + 1 > sum(low <= value <= high for value in excluded)


def _number_possible(tests: tuple[Test, ...], excluded: set[Any]) -> bool:
    youngest = max((test.value for test in tests if test.op is Op.OLDER_THAN), default=-inf)
    oldest = min((test.value for test in tests if test.op is Op.WITHIN), default=inf)
    low = max((test.value for test in tests if test.op in (Op.MIN, Op.ABOVE)), default=-inf)
    high = min((test.value for test in tests if test.op in (Op.MAX, Op.BELOW)), default=inf)
    if oldest <= youngest or low > high:
        return False
    # Between two different numbers there are more than any list can exclude.
    return low < high or _some({low} - excluded, tests)
