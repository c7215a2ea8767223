"""Many conditions decided at once: one look-up per feature instead of one test per clause.

For each feature, every value falls into one of a few cells between which no test can tell; a table gives, for each
cell, which conditions survive (one bit per condition) and which tests hold (one bit per distinct test: the truth word).
What a condition asks of one feature alone is settled by the table; what remains (alternatives over several features)
is an expression over the truth word. So the cost hangs on the number of features, hardly on that of offers.

The evaluator is assembled from syntax nodes: text from the catalog never becomes code.
"""

import ast
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from decisioning.by_cells import Evaluator, evaluator
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, Condition, Op, Test, conjuncts, holds
from decisioning.domain import Value

MEMO_LIMIT = 4096
"""How many different sets or texts a table remembers; beyond that it computes them anew."""


@dataclass(frozen=True)
class ConditionIndex:
    """Bit i of the first result is condition i; bit j of the truth word is `tests[j]`."""

    conditions: tuple[Condition, ...]
    tests: tuple[Test, ...]
    evaluate: Evaluator
    twin: Evaluator
    """The same by Python, which says what is right."""

    def holds(self, condition: Condition, word: int) -> bool:
        """Whether a condition of this index held, decoded from a truth word alone."""
        return _decoded(condition, word, {test: bit for bit, test in enumerate(self.tests)})


def build_index(conditions: Sequence[Condition], features: Mapping[str, FeatureSpec]) -> ConditionIndex:
    """The index of some conditions over declared features. An empty AllOf holds always."""
    tests = tuple(dict.fromkeys(test for condition in conditions for test in _tests(condition)))
    bits = {test: 1 << len(conditions) + position for position, test in enumerate(tests)}
    alone: dict[str, list[tuple[int, Condition]]] = {}
    together: dict[Condition, int] = {}
    for position, condition in enumerate(conditions):
        for clause in conjuncts(condition):
            names = {test.feature for test in _tests(clause)}
            if len(names) == 1:
                alone.setdefault(names.pop(), []).append((1 << position, clause))
            else:
                together[clause] = together.get(clause, 0) | 1 << position
    by_feature: dict[str, list[Test]] = {}
    for test in tests:
        by_feature.setdefault(test.feature, []).append(test)
    tables = [
        _Table(features[name], tuple(theirs), tuple(alone.get(name, ())), bits) for name, theirs in by_feature.items()
    ]
    twin = _assemble(tables, together, bits, len(conditions))
    evaluate = evaluator(tables, together, bits, len(conditions), MEMO_LIMIT, twin)
    return ConditionIndex(tuple(conditions), tests, evaluate, twin)


# --- Cells ------------------------------------------------------------------------------------------------------------


class _Cells(dict[Any, int]):
    """From a value to its cell. Computes what it has not met yet, and remembers a bounded number of them."""

    def __init__(self, compute: Callable[[Any], int]) -> None:
        super().__init__({None: compute(None)})
        self._compute = compute

    def __missing__(self, value: Any) -> int:
        cell = self._compute(value)
        if len(self) < MEMO_LIMIT:
            self[value] = cell
        return cell


@dataclass(frozen=True)
class _Table:
    """The look-up of one feature. A cell is one integer: a bit for each condition that fails, then the truth word."""

    spec: FeatureSpec
    tests: tuple[Test, ...]
    clauses: tuple[tuple[int, Condition], ...]
    """(bit of the condition, what it asks of this feature alone)."""
    bits: Mapping[Test, int]

    def cell(self, value: Value, now: float = 0.0) -> int:
        """The cell of any value, the slow way: by asking every test."""
        values = {} if value is None else {self.spec.name: value}
        found = 0
        for bit, clause in self.clauses:
            if not holds(clause, values, now):
                found |= bit
        for test in self.tests:
            if holds(test, values, now):
                found |= self.bits[test]
        return found

    @property
    def hangs_on_now(self) -> bool:
        return any(test.op in (Op.WITHIN, Op.OLDER_THAN) for test in self.tests)

    @property
    def is_ordered(self) -> bool:
        """Whether its values are too many to remember, but ordered."""
        return self.spec.type in (FeatureType.FLOAT, FeatureType.TIME)

    @property
    def points(self) -> tuple[float, ...]:
        """The numbers at which a test may change its mind."""
        return tuple(sorted({number for test in self.tests for number in _numbers(test)}))

    @property
    def cells(self) -> tuple[int, ...]:
        """Of numbers: below the first point, on it, between it and the next, …, above the last."""
        return tuple(map(self.cell, _probes(self.points)))


def _numbers(test: Test) -> Iterable[float]:
    if test.op in (Op.MISSING, Op.PRESENT):
        return ()
    return test.value if isinstance(test.value, tuple) else (test.value,)


def _probes(points: Sequence[float]) -> Iterator[float]:
    """One number of each cell in order: below the first point, on it, between it and the next, …, above the last.

    `bisect_left + bisect_right` of a number is the position of its cell.
    """
    if not points:
        yield 0.0
        return
    yield points[0] - 1.0 - abs(points[0])
    for point, following in pairwise(points):
        yield from (point, point / 2 + following / 2)
    yield from (points[-1], points[-1] + 1.0 + abs(points[-1]))


# --- Conditions -------------------------------------------------------------------------------------------------------


def _tests(condition: Condition) -> Iterator[Test]:
    if isinstance(condition, Test):
        yield condition
    else:
        for child in condition.children:
            yield from _tests(child)


def _decoded(condition: Condition, word: int, positions: Mapping[Test, int]) -> bool:
    if isinstance(condition, Test):
        return bool(word >> positions[condition] & 1)
    outcomes = (_decoded(child, word, positions) for child in condition.children)
    return all(outcomes) if isinstance(condition, AllOf) else any(outcomes)


# --- Assembly ---------------------------------------------------------------------------------------------------------


def _assemble(
    tables: Sequence[_Table], together: Mapping[Condition, int], bits: Mapping[Test, int], conditions: int
) -> Evaluator:
    """The function that goes through the tables, then through the clauses that speak of several features."""
    scope: dict[str, Any] = {"left": bisect_left, "right": bisect_right}
    body = _parse("get = values.get\nstate = 0")
    for number, table in enumerate(tables):
        body += _look_up(number, table, scope)
    for clause, whose in together.items():
        unless = _parse(f"if not 0:\n    state |= {whose}")[0]
        unless.test.operand = _expression(clause, bits)  # type: ignore[attr-defined]
        body.append(unless)
    everything = (1 << conditions) - 1
    function = _parse(f"def evaluate(values, now):\n    return {everything} & ~state, state >> {conditions}")[0]
    function.body[:0] = body  # type: ignore[attr-defined]
    exec(compile(ast.fix_missing_locations(ast.Module([function], [])), "<conditions>", "exec"), scope)
    return scope.pop("evaluate")  # type: ignore[no-any-return]  # no cycle: what is let go is free at once


def _look_up(number: int, table: _Table, scope: dict[str, Any]) -> list[ast.stmt]:
    """The statements that read one feature and add its cell to the state."""
    read = _parse("value = get('')")[0]
    read.value.args[0] = ast.Constant(table.spec.name)  # type: ignore[attr-defined]
    if table.hangs_on_now:
        scope[f"cell{number}"] = table.cell
        return [read, *_parse(f"state |= {table.cell(None)} if value is None else cell{number}(value, now)")]
    if table.is_ordered:
        scope |= {f"points{number}": table.points, f"cells{number}": table.cells}
        where = f"left(points{number}, value) + right(points{number}, value)"
        return [read, *_parse(f"state |= {table.cell(None)} if value is None else cells{number}[{where}]")]
    scope[f"cells{number}"] = _Cells(table.cell)
    add = _parse(f"state |= cells{number}[0]")[0]
    add.value.slice = read.value  # type: ignore[attr-defined]
    return [add]


def _parse(source: str) -> list[ast.stmt]:
    """Syntax nodes of our own templates: they hold numbers that we count, and nothing from a catalog."""
    return ast.parse(source).body


def _expression(condition: Condition, bits: Mapping[Test, int]) -> ast.expr:
    """A condition over the bits of the state. Alternatives that are single tests share one mask."""
    if isinstance(condition, Test):
        return _any_bit(bits[condition])
    every = isinstance(condition, AllOf)
    if not condition.children:
        return ast.Constant(every)
    plain = [bits[child] for child in condition.children if isinstance(child, Test)]
    parts = [_expression(child, bits) for child in condition.children if not isinstance(child, Test)]
    if plain:
        mask = sum(set(plain))  # the same audience may be named twice
        parts.insert(0, _all_bits(mask) if every else _any_bit(mask))
    return parts[0] if len(parts) == 1 else ast.BoolOp(ast.And() if every else ast.Or(), parts)


def _any_bit(mask: int) -> ast.expr:
    return ast.BinOp(ast.Name("state", ast.Load()), ast.BitAnd(), ast.Constant(mask))


def _all_bits(mask: int) -> ast.expr:
    return ast.Compare(_any_bit(mask), [ast.Eq()], [ast.Constant(mask)])
