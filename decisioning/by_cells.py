"""The evaluator of an index by the extension `_cells.c`, where it is built. `index` says what is right."""

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, Condition, Test
from decisioning.domain import Value
from decisioning.native import native

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""

ORDERED, NAMED, MOVING = range(3)
"""How a table finds the cell of a value: between points, in a memory of those that it met, or by asking every test."""
ANY_BIT, ALL_BITS, AND, OR = range(4)
"""What a node asks of the state."""

MOST_BITS = 32_768
"""Of a state. What needs more is left to Python."""
DEEPEST = 100

Evaluator = Callable[[Mapping[str, Value], float], tuple[int, int]]
"""(values, now) → (conditions that hold, truth word), as bit sets."""
_NUMBERS = (FeatureType.INT, FeatureType.FLOAT, FeatureType.TIME)
_Node = tuple[int, object]


class Table(Protocol):
    """The look-up of one feature, as `index` has it."""

    @property
    def spec(self) -> FeatureSpec: ...

    @property
    def hangs_on_now(self) -> bool: ...

    @property
    def points(self) -> Sequence[float]: ...

    @property
    def cells(self) -> Sequence[int]:
        """Of numbers: below the first point, on it, between it and the next, …, above the last."""
        ...

    def cell(self, value: Value, now: float = 0.0) -> int: ...


def evaluator(
    tables: Sequence[Table],
    together: Mapping[Condition, int],
    bits: Mapping[Test, int],
    conditions: int,
    limit: int,
    twin: Evaluator,
) -> Evaluator:
    """What does the same as `twin`; that itself where the extension isn't there, or the conditions are too many."""
    found = native("decisioning._cells", VERSION)
    many = conditions + len(bits)
    if (
        found is None
        or sys.byteorder != "little"
        or many > MOST_BITS
        or max(map(_depth, together), default=0) > DEEPEST
    ):
        return twin
    words = max(1, -(-many // 64))
    made = found.Evaluator(
        tables=tuple(_table(table, words) for table in tables),
        clauses=tuple(_node(clause, bits, words) for clause in together),
        whose=tuple(_bytes(whose, words) for whose in together.values()),
        conditions=conditions,
        words=words,
        limit=limit,
        twin=twin,
    )
    return made.evaluate  # type: ignore[no-any-return]


def _table(table: Table, words: int) -> tuple[object, ...]:
    points: Sequence[float] = ()
    cells: Sequence[int] = ()
    if table.hangs_on_now:
        kind = MOVING
    elif table.spec.type not in _NUMBERS:
        kind = NAMED
    elif all(abs(point) <= 2**53 for point in table.points):  # else a double might not hold it
        kind, points, cells = ORDERED, table.points, table.cells
    else:
        kind = MOVING

    def compute(value: Value, now: float) -> bytes:
        return _bytes(table.cell(value, now), words)

    told = struct.pack(f"<{len(points)}d", *points), b"".join(_bytes(cell, words) for cell in cells)
    return table.spec.name, kind, *told, _bytes(table.cell(None), words), compute


def _node(condition: Condition, bits: Mapping[Test, int], words: int) -> _Node:
    """A condition over the bits of the state. Alternatives that are single tests share one mask."""
    if isinstance(condition, Test):
        return ANY_BIT, _bytes(bits[condition], words)
    every = isinstance(condition, AllOf)
    mask, within = 0, []
    for child in condition.children:
        if isinstance(child, Test):
            mask |= bits[child]
        else:
            within.append(_node(child, bits, words))
    if mask:
        within.insert(0, (ALL_BITS if every else ANY_BIT, _bytes(mask, words)))
    return AND if every else OR, tuple(within)


def _depth(condition: Condition) -> int:
    return 0 if isinstance(condition, Test) else 1 + max(map(_depth, condition.children), default=0)


def _bytes(bits: int, words: int) -> bytes:
    return bits.to_bytes(words * 8, "little")
