"""Conditions over feature values: a tree in negation normal form, compiled to Python.

A missing value (None, or an absent key) makes every test false, in both polarities; only MISSING matches it. Negation
is pushed to the leaves when a condition is built (`negate`), so there is no "not" in the tree, and this rule is exactly
that of SQL's WHERE.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from decisioning.domain import NOWHERE, Place, Value

Compiled = Callable[[Mapping[str, Value], float], bool]


class Op(StrEnum):
    """What a test asks of its feature, and the type of `Test.value` that goes with it."""

    IS = "is"
    """Any of a tuple of values."""
    IS_NOT = "not"
    """None of a tuple of values."""
    MIN = "min"
    MAX = "max"
    ABOVE = "above"
    BELOW = "below"
    HAS = "has"
    """A set that holds all of a tuple of names."""
    HAS_ANY = "has_any"
    LACKS = "lacks"
    """A set that holds none of a tuple of names."""
    WITHIN = "within"
    """A time at most so many seconds ago; a time to come counts as within."""
    OLDER_THAN = "older_than"
    VERSION_MIN = "version_min"
    """Text such as "8.9.12", compared number by number; text that is no version counts as missing."""
    VERSION_BELOW = "version_below"
    MISSING = "missing"
    PRESENT = "present"


class _Compilable:
    """Compiles a condition once, when it is first asked."""

    @cached_property
    def compiled(self) -> Compiled:
        return _compile(self)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Test(_Compilable):
    feature: str
    op: Op
    value: Any = None
    """A tuple, a number or a version, as `op` says."""
    place: Place = field(default=NOWHERE, compare=False)
    """Where it stands; the same test in two places is the same test."""

    __test__ = False  # not a pytest class


@dataclass(frozen=True)
class AllOf(_Compilable):
    """True when every child is; so true when it has none."""

    children: tuple["Condition", ...]
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class AnyOf(_Compilable):
    """True when some child is; so false when it has none."""

    children: tuple["Condition", ...]
    place: Place = field(default=NOWHERE, compare=False)


Condition = Test | AllOf | AnyOf


_OPPOSITE = {
    Op.IS: Op.IS_NOT,
    Op.MIN: Op.BELOW,
    Op.ABOVE: Op.MAX,
    Op.HAS_ANY: Op.LACKS,
    Op.WITHIN: Op.OLDER_THAN,
    Op.VERSION_MIN: Op.VERSION_BELOW,
    Op.MISSING: Op.PRESENT,
}
_OPPOSITE |= {there: here for here, there in _OPPOSITE.items()}


def negate(condition: Condition) -> Condition:
    """The opposite condition for values that are known. A missing value fails both, except for MISSING and PRESENT."""
    if isinstance(condition, AllOf):
        return AnyOf(tuple(map(negate, condition.children)), condition.place)
    if isinstance(condition, AnyOf):
        return AllOf(tuple(map(negate, condition.children)), condition.place)
    if condition.op is Op.HAS:  # "has all of" fails where any one of them is lacking
        return AnyOf(
            tuple(Test(condition.feature, Op.LACKS, (name,), condition.place) for name in condition.value),
            condition.place,
        )
    return Test(condition.feature, _OPPOSITE[condition.op], condition.value, condition.place)


def complement(condition: Condition) -> Condition:
    """What holds wherever the condition does not, missing values included.

    Exactly there, but for versions: text that is none fails every test of versions, which no test can say.
    """
    if isinstance(condition, AllOf):
        return AnyOf(tuple(map(complement, condition.children)), condition.place)
    if isinstance(condition, AnyOf):
        return AllOf(tuple(map(complement, condition.children)), condition.place)
    if condition.op in (Op.VERSION_MIN, Op.VERSION_BELOW):
        return AllOf((), condition.place)
    if condition.op in (Op.MISSING, Op.PRESENT):
        return negate(condition)
    return AnyOf((negate(condition), Test(condition.feature, Op.MISSING, None, condition.place)), condition.place)


def holds(condition: Condition, values: Mapping[str, Value], now: float) -> bool:
    """Whether a condition holds. Values must be of their features' declared types (`knowledge` sees to it)."""
    return condition.compiled(values, now)


def reads(condition: Condition) -> frozenset[str]:
    """The names of the features that a condition may look at."""
    if isinstance(condition, Test):
        return frozenset({condition.feature})
    return frozenset().union(*map(reads, condition.children))


def conjuncts(condition: Condition) -> Iterator[Condition]:
    """The parts of a conjunction, however deep, in the order written: all of them have to hold."""
    if isinstance(condition, AllOf):
        for child in condition.children:
            yield from conjuncts(child)
    else:
        yield condition


def clauses(condition: Condition) -> int:
    """How many tests a condition has, those of its audiences included."""
    return 1 if isinstance(condition, Test) else sum(map(clauses, condition.children))


# --- Versions ---------------------------------------------------------------------------------------------------------

VERSION_PATTERN = r"v?(\d{1,9}(?:\.\d{1,9}){0,7})"
_VERSION = re.compile(VERSION_PATTERN, re.ASCII)


def version(text: Value) -> tuple[int, ...] | None:
    """The numbers that a version starts with: "8.9.0-beta" is (8, 9). None where there are none."""
    found = _VERSION.match(text) if isinstance(text, str) else None
    if not found:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:  # 8.9 and 8.9.0 are the same version
        numbers.pop()
    return tuple(numbers)


# --- Compilation ------------------------------------------------------------------------------------------------------


def _compile(condition: Condition) -> Compiled:
    """A function `(values, now) -> bool`, made from syntax nodes: text from the catalog never becomes code.

    Its body reads `get = values.get; return <expression>`, and the expression short-circuits like the condition.
    """
    function = ast.FunctionDef(
        name="condition",
        args=ast.arguments(
            posonlyargs=[], args=[ast.arg("values"), ast.arg("now")], kwonlyargs=[], kw_defaults=[], defaults=[]
        ),
        body=[
            ast.Assign([ast.Name("get", ast.Store())], ast.Attribute(_name("values"), "get", ast.Load())),
            ast.Return(_expression(condition)),
        ],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([function], type_ignores=[]))
    scope: dict[str, object] = {"version": version}
    exec(compile(module, "<condition>", "exec"), scope)
    return scope.pop("condition")  # type: ignore[return-value]  # no cycle: what is let go is free at once


def _expression(condition: Condition) -> ast.expr:
    if isinstance(condition, Test):
        return _test_expression(condition)
    every = isinstance(condition, AllOf)
    parts = [_expression(child) for child in condition.children]
    if len(parts) < 2:
        return parts[0] if parts else _constant(every)
    return ast.BoolOp(ast.And() if every else ast.Or(), parts)


_COMPARISONS = {
    Op.MIN: ast.GtE,
    Op.MAX: ast.LtE,
    Op.ABOVE: ast.Gt,
    Op.BELOW: ast.Lt,
    Op.VERSION_MIN: ast.GtE,
    Op.VERSION_BELOW: ast.Lt,
}


def _test_expression(test: Test) -> ast.expr:
    """The test as an expression over `get` and `now`; "found" is bound to the value where it is needed twice."""
    get = _call(_name("get"), _constant(test.feature))
    match test.op:
        case Op.IS:  # None is among no values, so a missing value needs no test of its own
            return _among(get, test.value)
        case Op.MISSING:
            return ast.Compare(get, [ast.Is()], [_constant(None)])
    known = ast.Compare(ast.NamedExpr(ast.Name("found", ast.Store()), get), [ast.IsNot()], [_constant(None)])
    found = _name("found")
    match test.op:
        case Op.PRESENT:
            return known
        case Op.IS_NOT:
            wanted: ast.expr = ast.UnaryOp(ast.Not(), _among(found, test.value))
        case Op.HAS:
            wanted = _call(ast.Attribute(_names(test), "issubset", ast.Load()), found)
        case Op.HAS_ANY:
            wanted = ast.UnaryOp(ast.Not(), _call(ast.Attribute(_names(test), "isdisjoint", ast.Load()), found))
        case Op.LACKS:
            wanted = _call(ast.Attribute(_names(test), "isdisjoint", ast.Load()), found)
        case Op.WITHIN | Op.OLDER_THAN:
            age = ast.BinOp(_name("now"), ast.Sub(), found)
            operator = ast.LtE() if test.op is Op.WITHIN else ast.Gt()
            wanted = ast.Compare(age, [operator], [_constant(test.value)])
        case Op.VERSION_MIN | Op.VERSION_BELOW:
            parsed = ast.NamedExpr(ast.Name("found", ast.Store()), _call(_name("version"), found))
            is_version = ast.Compare(parsed, [ast.IsNot()], [_constant(None)])
            wanted = ast.Compare(found, [_COMPARISONS[test.op]()], [_constant(version(test.value) or ())])
            return ast.BoolOp(ast.And(), [known, is_version, wanted])
        case _:
            wanted = ast.Compare(found, [_COMPARISONS[test.op]()], [_constant(test.value)])
    return ast.BoolOp(ast.And(), [known, wanted])


def _among(what: ast.expr, values: tuple[Value, ...]) -> ast.expr:
    if len(values) == 1:
        return ast.Compare(what, [ast.Eq()], [_constant(values[0])])
    return ast.Compare(what, [ast.In()], [_constant(frozenset(values))])


def _names(test: Test) -> ast.expr:
    return _constant(frozenset(test.value))


def _constant(value: Any) -> ast.Constant:
    return ast.Constant(value)


def _name(text: str) -> ast.Name:
    return ast.Name(text, ast.Load())


def _call(function: ast.expr, argument: ast.expr) -> ast.Call:
    return ast.Call(function, [argument], [])
