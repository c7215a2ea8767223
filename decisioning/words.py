"""Conditions in plain words: what they ask, and why one of them does not hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from decisioning.conditions import AllOf, Condition, Op, Test, holds
from decisioning.domain import Place, Value


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a condition does not hold: one clause with the value found, and where the clause stands."""

    detail: str
    place: Place


def first_failure(condition: Condition, values: Mapping[str, Value], now: float) -> Failure | None:
    """The first clause that does not hold, in the order written; None when the condition holds."""
    if holds(condition, values, now):
        return None
    if isinstance(condition, Test):
        return Failure(_shortfall(condition, values.get(condition.feature), now), condition.place)
    failures = [failure for child in condition.children if (failure := first_failure(child, values, now))]
    if isinstance(condition, AllOf) or len(failures) == 1:
        return failures[0]
    if not failures:
        return Failure("no alternative is given", condition.place)
    # A child may explain itself with several clauses of its own; one mark at the end says that any one would do.
    details = ", and ".join(failure.detail.removesuffix(_ONE_WOULD_DO) for failure in failures)
    return Failure(details + _ONE_WOULD_DO, condition.place)


_ONE_WOULD_DO = " (one of them would do)"


def words(condition: Condition) -> str:
    """The condition in plain language: "tier is free and (sessions_7d is at least 3 or is_student is true)"."""
    if isinstance(condition, Test):
        return f"{condition.feature} {_claim(condition)}"
    if not condition.children:
        return "always" if isinstance(condition, AllOf) else "never"
    parts = [f"({words(child)})" if _needs_brackets(child, condition) else words(child) for child in condition.children]
    return (" and " if isinstance(condition, AllOf) else " or ").join(parts)


def _needs_brackets(child: Condition, within: Condition) -> bool:
    """Not "a and (b and c)", which is the same without."""
    return not isinstance(child, Test) and len(child.children) > 1 and type(child) is not type(within)


def _claim(test: Test) -> str:
    match test.op:
        case Op.MISSING:
            return "is missing"
        case Op.PRESENT:
            return "is known"
        case Op.HAS | Op.HAS_ANY | Op.LACKS:
            return f"has {_wanted(test)}"
        case Op.WITHIN | Op.OLDER_THAN:
            return f"was {_wanted(test)}"
        case _:
            return f"is {_wanted(test)}"


def _wanted(test: Test) -> str:
    """What the test needs, to follow "needs" or "is"."""
    value = test.value
    match test.op:
        case Op.IS:
            return _one_of(value)
        case Op.IS_NOT:
            return f"anything but {_listed(value)}" if len(value) == 1 else f"none of {_listed(value)}"
        case Op.HAS:
            return _listed(value) if len(value) == 1 else f"all of {_listed(value)}"
        case Op.HAS_ANY:
            return _one_of(value)
        case Op.LACKS:
            return f"none of {_listed(value)}" if len(value) > 1 else f"no {_listed(value)}"
        case Op.MIN:
            return f"at least {said(value)}"
        case Op.MAX:
            return f"at most {said(value)}"
        case Op.ABOVE:
            return f"more than {said(value)}"
        case Op.BELOW:
            return f"less than {said(value)}"
        case Op.WITHIN:
            return f"at most {duration(value)} ago"
        case Op.OLDER_THAN:
            return f"more than {duration(value)} ago"
        case Op.VERSION_MIN:
            return f"version {value} or later"
        case _:
            return f"a version before {value}"


def _shortfall(test: Test, found: Any, now: float) -> str:
    """Why a test fails, with the value found."""
    if test.op is Op.MISSING:
        return f"{test.feature} is {said(found)}, needs to be missing"
    if found is None:
        return f"{test.feature} is missing"
    if test.op in (Op.WITHIN, Op.OLDER_THAN):
        return f"{test.feature} was {duration(now - found)} ago, needs {_wanted(test)}"
    return f"{test.feature} is {said(found)}, needs {_wanted(test)}"


def _one_of(values: tuple[Value, ...]) -> str:
    return said(values[0]) if len(values) == 1 else f"one of {_listed(values)}"


def _listed(values: Iterable[Value]) -> str:
    return ", ".join(map(said, values))


def said(value: Value) -> str:
    """A value as a person would write it in the catalog."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, frozenset):
        return f"[{', '.join(sorted(value))}]"
    if isinstance(value, float):
        return f"{value:.7g}"  # what a float32 holds
    return str(value)


def counted(count: int, what: str) -> str:
    """Some events, such as "1 click" or "5 dismisses"."""
    ending = "es" if what.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count} {what}{'' if count == 1 else ending}"


def duration(seconds: float) -> str:
    """Seconds as "36h", "14d" or "30ms": the largest unit that leaves a whole number, or a rounded one."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds * 1000:.0f}ms"
