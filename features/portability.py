"""Refuses a definition that would not mean the same on every engine, whatever way it was written.

The kinds of operation that may stand in a definition are listed; what is not listed is refused. Some that are listed
need more: what is divided by can't be 0, epoch seconds are taken of whole seconds, a fraction is never cast to a whole
number, nor a number to text.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir

from decisioning.catalog import FeatureType
from decisioning.errors import UserError
from features.feature import Feature
from features.portable import SEEN, USER

PLAIN = (
    *(ops.Literal, ops.Field),
    *(ops.Equals, ops.NotEquals, ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual, ops.And, ops.Or, ops.Not),
    *(ops.IfElse, ops.SearchedCase, ops.Coalesce, ops.NullIf, ops.IsNull, ops.NotNull),
    *(ops.Add, ops.Subtract, ops.Multiply, ops.Round),
    *(ops.Sum, ops.Min, ops.Max, ops.CountDistinct),
)
"""Mean the same everywhere, over numbers, texts, truth values and moments. No floats are summed: see `_sum`."""


def _is_whole(node: ops.Value) -> bool:
    return node.dtype.is_integer()


def _never_zero(node: ops.Value) -> bool:
    return (isinstance(node, ops.Literal) and node.value not in (0, None)) or isinstance(node, ops.NullIf)


def _divides_safely(node: ops.Divide | ops.FloorDivide) -> str | None:
    if not _never_zero(node.right):
        return "may divide by zero, which stops Spark: use p.share"
    if type(node) is ops.Divide and not node.left.dtype.is_floating():
        return "divides a whole number, of which Spark makes a decimal: use p.share, or cast it to float64 before"
    return None


def _whole_seconds(node: ops.ExtractEpochSeconds) -> str | None:
    is_cut = isinstance(node.arg, ops.TimestampTruncate) and node.arg.unit.value == "s"
    return None if is_cut else "takes epoch seconds of a fraction, which engines round differently: use p.seconds"


def _truncates_to_seconds(node: ops.TimestampTruncate) -> str | None:
    return None if node.unit.value == "s" else "truncates moments by calendars, which differ: use p.seconds"


def _keeps_the_number(node: ops.Cast) -> str | None:
    source, target = node.arg.dtype, node.to
    if target.is_integer() and (source.is_integer() or isinstance(node.arg, ops.Round)):
        return None
    if target.is_floating() and source.is_numeric():
        return None
    return f"casts {source} to {target}, which engines do differently: use p.whole_amount or p.band"


def _sum(node: ops.Sum) -> str | None:
    return None if _is_whole(node.arg) else "sums fractions, whose total hangs on their order: use p.amount"


WITH_CARE: dict[type[ops.Value], Callable[..., str | None]] = {
    ops.Divide: _divides_safely,
    ops.FloorDivide: _divides_safely,
    ops.ExtractEpochSeconds: _whole_seconds,
    ops.TimestampTruncate: _truncates_to_seconds,
    ops.Cast: _keeps_the_number,
    ops.Sum: _sum,
}
"""What is wrong with a node of these kinds; None where nothing is."""

GIVES: dict[FeatureType, Callable[[dt.DataType], bool]] = {
    FeatureType.BOOL: dt.DataType.is_boolean,
    FeatureType.INT: dt.DataType.is_integer,
    FeatureType.FLOAT: dt.DataType.is_floating,
    FeatureType.ENUM: dt.DataType.is_string,
    FeatureType.SET: dt.DataType.is_integer,
}


def troubles(value: ir.Value, type: FeatureType) -> Iterator[str]:
    """What keeps an expression from being portable, each kind of trouble once."""
    if not GIVES[type](value.type()):
        yield f"gives {value.type()}, and is declared {type}"
    nodes = value.op().find(ops.Value, filter=ops.Value)
    yield from dict.fromkeys(filter(None, map(_trouble, nodes)))


def _trouble(node: ops.Value) -> str | None:
    for kind, judge in WITH_CARE.items():
        if isinstance(node, kind):
            return judge(node)
    return None if type(node) in PLAIN else f"uses {type(node).__name__}, which is not among the portable operations"


def check(feature: Feature) -> None:
    """Raises UserError with the first reason why its expression may not be a definition."""
    value = feature.of_events(SEEN) if feature.of_events else feature.of_user(USER)
    for trouble in troubles(value, feature.spec.type):
        raise UserError(f"The definition of {feature.name} {trouble} (features/portable.py has what may be used).")


@lru_cache(maxsize=32)
def check_definitions(features: tuple[Feature, ...]) -> None:
    """The same of several, once: whoever computes features asks, as not every definition comes from `declared`."""
    for feature in features:
        check(feature)
