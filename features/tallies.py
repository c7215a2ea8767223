"""The tallies that features are made of: what is counted over a user's events, and how it goes on from day to day.

Every `of_events` is an expression over a few aggregates of rows: sums of whole numbers, least and greatest values,
numbers of different values. They are taken out of the definitions as they stand, and so is what each needs to know:

- `types`: the types of event that it looks at. One pass for each such set touches only what can change.
- `window`: how many seconds back it looks. A tally that looks at the last 28 days is taken anew each day from those
  days; nothing that leaves the window has to be forgotten.
- Without a window it is *carried*: the tally up to yesterday and the tally of the new events add up to the tally of
  both, exactly, because a sum of whole numbers, a minimum and a maximum don't hang on an order.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot

from features.feature import Feature
from features.portability import check_definitions
from features.portable import SEEN


@dataclass(frozen=True, slots=True)
class Tally:
    """One aggregate over a user's events, which any number of features may share."""

    name: str
    op: ops.Reduction
    types: frozenset[str] | None
    """The types of event that it looks at; None for all of them."""
    window: int | None
    """How many seconds back it looks; None for ever."""
    fault: str | None = None
    """Why it can't be carried, though it has no window."""

    @property
    def is_carried(self) -> bool:
        return self.window is None

    @property
    def of_none(self) -> int | None:
        """What it is over events none of which matter to it."""
        if isinstance(self.op, ops.Sum):
            return 0 if self.op.where is None and _is_zero_else(self.op.arg) else None
        return 0 if isinstance(self.op, ops.CountDistinct) else None

    def merged(self, before: str, since: str, seconds: int) -> str:
        """SQL that makes one tally of two: `before`, which was taken so many `seconds` ago, and what came `since`."""
        if _is_age(self.op.args[0]):
            before = f"({before} + {seconds})"
        match self.op:
            case ops.Sum():
                return f"coalesce({before} + {since}, {before}, {since})"
            case ops.Max():
                return f"greatest({before}, {since})"
            case _:
                return f"least({before}, {since})"


def tallies(features: Iterable[Feature]) -> tuple[Tally, ...]:
    """What these features are made of, each once, in a fixed order."""
    features = tuple(features)
    check_definitions(features)
    found: dict[ops.Reduction, None] = {}
    for feature in features:
        if feature.of_events:
            found |= dict.fromkeys(feature.of_events(SEEN).op().find(ops.Reduction))
    return tuple(_tally(f"t{number}", op) for number, op in enumerate(found))


def sql(taken: Iterable[Tally]) -> Mapping[str, str]:
    """DuckDB's SQL of each tally by name, over a table `seen` called t0."""
    table = SEEN.aggregate(**{tally.name: tally.op.to_expr() for tally in taken})
    selected = sqlglot.parse_one(str(ibis.to_sql(table, dialect="duckdb")), read="duckdb").selects
    return {column.alias: column.this.sql(dialect="duckdb") for column in selected}


def value_of(feature: Feature, taken: Iterable[Tally], table: ir.Table) -> ir.Value:
    """The feature's expression with each tally as the column of that name in a table."""
    columns = {tally.op: table[tally.name].op() for tally in taken}
    return feature.of_events(SEEN).op().replace(columns).to_expr()


def faults(features: Iterable[Feature], taken: Iterable[Tally]) -> Iterator[str]:
    """Why these features can't go on from an earlier day, if they can't."""
    wrong = {tally.op: tally.fault for tally in taken if tally.fault}
    for feature in features:
        if feature.of_events:
            for op in feature.of_events(SEEN).op().find(ops.Reduction):
                if op in wrong:
                    yield f"{feature.name} {wrong[op]}"


def _tally(name: str, op: ops.Reduction) -> Tally:
    conditions = tuple(_conditions(op))
    types = [kinds for condition in conditions if (kinds := _types(condition))]
    windows = [seconds for condition in conditions if (seconds := _window(condition)) is not None]
    chosen = reduce(frozenset.intersection, types) if types else None
    window = min(windows, default=None)
    return Tally(name, op, chosen, window, _fault(op) if window is None else None)


def _conditions(op: ops.Reduction) -> Iterator[ops.Value]:
    """What a row must fulfil to matter. All of them hold at once."""
    if op.where is not None:
        yield from _and(op.where)
    chosen = op.args[0]
    # Under a `where`, a sum of zeros differs from a sum of nothing.
    summed = isinstance(op, ops.Sum)
    if (summed and op.where is None and _is_zero_else(chosen)) or (not summed and _is_null_else(chosen)):
        yield from _and(chosen.bool_expr)


def _and(condition: ops.Value) -> Iterator[ops.Value]:
    if isinstance(condition, ops.And):
        yield from _and(condition.left)
        yield from _and(condition.right)
    else:
        yield condition


def _types(condition: ops.Value) -> frozenset[str] | None:
    match condition:
        case ops.Equals(left=ops.Field(name="type"), right=ops.Literal(value=value)):
            return frozenset({value})
        case ops.InValues(value=ops.Field(name="type"), options=options):
            if all(isinstance(option, ops.Literal) for option in options):
                return frozenset(option.value for option in options)
    return None


def _window(condition: ops.Value) -> int | None:
    match condition:
        case ops.LessEqual(left=ops.Field(name="age"), right=ops.Literal(value=int() as seconds)):
            return seconds
        case ops.Less(left=ops.Field(name="age"), right=ops.Literal(value=int() as seconds)):
            return seconds
    return None


def _fault(op: ops.Reduction) -> str | None:
    """Of a tally without a window: `age` changes every day, unless it is what the least or greatest is taken of."""
    if not isinstance(op, (ops.Sum, ops.Min, ops.Max)):
        return f"takes {type(op).__name__} over all time, which doesn't add up from day to day: give it a window"
    if isinstance(op, ops.Sum) and not op.arg.dtype.is_integer():
        return "sums fractions over all time, whose total hangs on their order: sum whole numbers"
    looked_at = (op.where,) if _is_age(op.args[0]) and isinstance(op, (ops.Min, ops.Max)) else op.args
    fields = (field for part in looked_at if part is not None for field in _fields(part))
    return "looks at ages over all time in a way that can't go on: give it a window" if "age" in fields else None


def _fields(node: ops.Value) -> Iterator[str]:
    return (field.name for field in node.find(ops.Field))


def _is_age(node: ops.Value) -> bool:
    return isinstance(node, ops.Field) and node.name == "age"


def _is_zero_else(node: ops.Value) -> bool:
    return isinstance(node, ops.IfElse) and _literal(node.false_null_expr) == 0


def _is_null_else(node: ops.Value) -> bool:
    return (
        isinstance(node, ops.IfElse)
        and isinstance(node.false_null_expr, ops.Literal)
        and node.false_null_expr.value is None
    )


def _literal(node: ops.Value) -> object:
    node = node.arg if isinstance(node, ops.Cast) else node
    return node.value if isinstance(node, ops.Literal) else None


@dataclass(frozen=True, slots=True)
class Pass:
    """Tallies that are taken together, over the events of some types within a window: no others can change them."""

    types: frozenset[str] | None
    window: int | None
    tallies: tuple[Tally, ...]


def passes(taken: Iterable[Tally]) -> tuple[Pass, ...]:
    """What is taken together: by types, and apart what has no window, and what counts different values.

    To tell values apart costs most by the row, so that it sees none outside of its own window.
    """
    kinds: dict[tuple[frozenset[str] | None, bool], list[Tally]] = {}
    for tally in taken:
        kinds.setdefault((tally.types, tally.is_carried), []).append(tally)
    found = []
    for (types, is_carried), some in kinds.items():
        apart = {tally.window for tally in some if isinstance(tally.op, ops.CountDistinct)}
        rest = [tally for tally in some if tally.window not in apart]
        for group in (
            *([tally for tally in some if tally.window == window] for window in sorted(apart, key=str)),
            rest,
        ):
            if group:
                window = None if is_carried else max(tally.window or 0 for tally in group)
                found.append(Pass(types, window, tuple(group)))
    return tuple(found)
