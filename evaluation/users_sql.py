"""All users of a snapshot as SQL: the values that a server would hold for each of them at the snapshot's own moment."""

from collections.abc import Mapping
from glob import escape

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.conditions import Op, Test
from decisioning.domain import Value
from decisioning.errors import UserError
from decisioning.sql import literal, quoted, to_sql
from features.schema import MINUTES_FROM
from features.snapshots import Snapshot

SQL_TYPES = {
    FeatureType.BOOL: "BOOLEAN",
    FeatureType.INT: "DOUBLE",
    FeatureType.FLOAT: "DOUBLE",
    FeatureType.ENUM: "VARCHAR",
    FeatureType.SET: "VARCHAR[]",
    FeatureType.TIME: "DOUBLE",
    FeatureType.TEXT: "VARCHAR",
}


PARTS = 4
"""How many of a snapshot's parts (a million users) one query takes at most, so that memory has a bound."""


def users_sql(catalog: Catalog, snapshot: Snapshot, context: Mapping[str, Value]) -> list[str]:
    """Queries of one row a user and one column a feature that the catalog declares: defaults filled in, missing NULL.

    Together they give every user once; all have the same `context`. Raises UserError for a snapshot that lacks a
    feature, or has it in another type.
    """
    _check(catalog, snapshot)
    columns = [
        f"{_constant(spec, context.get(spec.name)) if spec.from_context else _column(spec)} AS {quoted(spec.name)}"
        for spec in catalog.features.values()
    ]
    files = [literal(escape(str(snapshot.path / part))) for part in snapshot.manifest["parts"]]
    # by name: a part in which a set is known of nobody has no type for it
    return [
        f"SELECT {', '.join(columns)} FROM read_parquet([{', '.join(some)}], union_by_name = TRUE)"
        for some in (files[first : first + PARTS] for first in range(0, len(files), PARTS))
    ]


def _check(catalog: Catalog, snapshot: Snapshot) -> None:
    """Raises UserError unless the snapshot has every feature that the catalog declares, in the same type."""
    stored = {spec.name: spec for spec in snapshot.schema.specs}
    for spec in catalog.features.values():
        if spec.from_context:
            continue
        if spec.name not in stored:
            raise UserError(
                f"The snapshot {snapshot.id} has no {spec.name}, which the catalog declares: run "
                "`segue features build` with this catalog, or mark it `from: context` if clients send it."
            )
        if stored[spec.name].type is not spec.type:
            raise UserError(
                f"The catalog declares {spec.name} as {spec.type}, the snapshot {snapshot.id} has it as "
                f"{stored[spec.name].type}: build the snapshot again with this catalog, or declare it as it is."
            )


def _column(spec: FeatureSpec) -> str:
    """A column of the snapshot, as servers hold it: packed (`schema.encode`), published, and unpacked again.

    So numbers have the precision of float32, times that of a minute, and an undeclared value of an enum is missing.
    """
    name = quoted(spec.name)
    match spec.type:
        case FeatureType.INT | FeatureType.FLOAT:
            value = _as_float32(name)
        case FeatureType.TIME:
            start, at = literal(MINUTES_FROM), f"epoch(CAST({name} AS TIMESTAMPTZ))"  # from nanoseconds
            value = f"{start} + 60 * {_as_float32(f'floor(({at} - {start}) / 60)')}"
        case FeatureType.ENUM:
            value = f"CASE WHEN {to_sql(Test(spec.name, Op.IS, spec.values), 0)} THEN {name} END"
        case _:
            value = name
    return value if spec.default is None else f"coalesce({value}, {_constant(spec, None)})"


def _as_float32(number: str) -> str:
    """NULL beyond float32, and for what is no number."""
    packed = f"TRY_CAST({number} AS FLOAT)"
    return f"CASE WHEN isfinite({packed}) THEN CAST({packed} AS DOUBLE) END"


def _constant(spec: FeatureSpec, value: Value) -> str:
    """A value that all users have, or else the default, or NULL; of the type that the column would have."""
    value = spec.default if value is None else value
    if value is None:
        text = "NULL"
    elif isinstance(value, frozenset):
        text = f"[{', '.join(map(literal, sorted(value)))}]"
    else:
        text = literal(value)
    return f"CAST({text} AS {SQL_TYPES[spec.type]})"
