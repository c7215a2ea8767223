"""What is wrong with events and users before features are made of them, said with file, column, row and what to do.

A broken table is refused: a column that is missing or of another type, a moment without a time zone, a user who stands
twice. A few rows that can't be used (no time, a time of the future) are what the world is like: they are left out and
counted. Over 1 % of a file are a fault upstream, and refused.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as kinds
from duckdb import DuckDBPyConnection

from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from features.source_files import SourceFile
from features.sources import BAD_ROWS, EventSource, events, path_sql

TOLERATED = 0.01
"""Of a file's rows that may be left out."""

WORDS = {
    "without_user": "no user_id",
    "without_time": "no time (at)",
    "without_type": "no type",
    "before_2000": "a time before the year 2000",
    "after_the_end": "a time after the end of what the file may hold",
    "impossible_amount": "an amount that is no number, below 0, or over 10⁹",
    "impossible_hour": "an hour that is none of 0 to 23",
}


def _is_text(type: pa.DataType) -> bool:
    type = type.value_type if kinds.is_dictionary(type) else type
    return kinds.is_string(type) or kinds.is_large_string(type) or kinds.is_string_view(type)


def _is_number(type: pa.DataType) -> bool:
    return kinds.is_floating(type) or kinds.is_integer(type)


def _is_moment(type: pa.DataType) -> bool:
    return kinds.is_timestamp(type) and type.tz is not None


Kind = tuple[str, Callable[[pa.DataType], bool]]
TEXT: Kind = ("text", _is_text)
MOMENT: Kind = ("a moment with its time zone", _is_moment)
NUMBER: Kind = ("a number", _is_number)
WHOLE: Kind = ("a whole number", kinds.is_integer)

EVENT_COLUMNS: Mapping[str, Kind] = {
    "user_id": TEXT,
    "at": MOMENT,
    "type": TEXT,
    "item": TEXT,
    "amount": NUMBER,
    "hour": WHOLE,
}
USER_COLUMNS: Mapping[str, Kind] = {"user_id": TEXT, "signup_at": MOMENT, "born_at": MOMENT, "market": TEXT}
OPTIONAL: Mapping[str, Kind] = {"event_id": TEXT}


def check_columns(files: Iterable[Path], columns: Mapping[str, Kind] = EVENT_COLUMNS) -> None:
    """Raises UserError for the first file that can't be read, lacks a column, or has one of another type.

    A column that holds nothing at all has no type of its own, and passes as any.
    """
    with_id: dict[bool, Path] = {}
    for file in files:
        schema = _schema(file)
        for name, kind in columns.items():
            if name not in schema.names:
                raise UserError(f"{file} has no column {name}. {did_you_mean(name, frozenset(schema.names))}".rstrip())
            _check_type(file, schema.field(name), kind)
        if "event_id" in schema.names:
            _check_type(file, schema.field("event_id"), TEXT)
        with_id["event_id" in schema.names] = file
    if columns is EVENT_COLUMNS and len(with_id) == 2:
        raise UserError(
            f"{with_id[True]} has the column event_id, {with_id[False]} has not: give it to all, or to none."
        )


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} can't be read as Parquet ({str(error).splitlines()[0]}).") from None


def _check_type(file: Path, column: pa.Field, kind: Kind) -> None:
    wanted, fits = kind
    if fits(column.type) or kinds.is_null(column.type):
        return
    values = pq.read_table(file, columns=[column.name])[column.name]
    row = next((row for row, valid in enumerate(values.is_valid().to_pylist()) if valid), None)
    first = "it holds nothing" if row is None else f"row {row + 1:,}: {values[row].as_py()}"
    if kind is MOMENT and kinds.is_timestamp(column.type):
        raise UserError(
            f"{file}: {column.name} has no time zone ({first}): write it in UTC, or nobody can tell when it was."
        )
    zones = f", in the time zones {_zones(values)}" if kind is MOMENT and _is_text(column.type) else ""
    advice = "write timestamps in UTC" if kind is MOMENT else "write it as it was before"
    raise UserError(f"{file}: {column.name} is {column.type} where {wanted} is needed ({first}{zones}): {advice}.")


def _zones(values: pa.ChunkedArray) -> str:
    found = pc.extract_regex(pc.cast(values, pa.string()), r"(?P<zone>Z|[+-]\d\d:?\d\d|)$").combine_chunks()
    return ", ".join(
        sorted(zone or "(none)" for zone in pc.unique(found.field("zone")).to_pylist() if zone is not None)
    )


def check_rows(connection: DuckDBPyConnection, source: EventSource, files: Iterable[SourceFile]) -> None:
    """Raises UserError for the first file of which more is left out than is tolerated, with the first such row."""
    for file in files:
        bad = sum(file.left_out.values())
        if bad <= TOLERATED * file.rows:
            continue
        path = source.data / file.name
        told = ", ".join(f"{number:,} with {WORDS[reason]}" for reason, number in file.left_out.items())
        reason = next(iter(file.left_out))
        events(connection, "refused", [(path, file.until)], told=True)
        ((row, user, at),) = connection.execute(
            f'SELECT row, user_id, "at" FROM refused WHERE {BAD_ROWS[reason]} ORDER BY row LIMIT 1'
        ).fetchall()
        until = f" (the end of this file: {file.until:%Y-%m-%d %H:%M} UTC)" if "after_the_end" in file.left_out else ""
        raise UserError(
            f"{path}: {bad:,} of {file.rows:,} events can't be used: {told}{until}. The first of them is row {row:,} "
            f"(user {user}, at {at}). Up to {TOLERATED:.0%} of a file are left out and counted: mend the file."
        )


def check_users(connection: DuckDBPyConnection, file: Path) -> int:
    """How many users have no sign-up time, and so aren't known yet. Raises UserError for what breaks the table."""
    check_columns([file], USER_COLUMNS)
    read = f"read_parquet({path_sql(file)}, file_row_number = true)"
    ((nameless, unsigned),) = connection.execute(
        f"SELECT min(file_row_number) FILTER (user_id IS NULL), count(*) FILTER (signup_at IS NULL) FROM {read}"
    ).fetchall()
    if nameless is not None:
        raise UserError(f"{file}, row {nameless + 1:,}: a user without user_id.")
    twice = connection.execute(
        f"SELECT user_id, min(file_row_number) + 1, max(file_row_number) + 1 FROM {read} "
        "GROUP BY user_id HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
    ).fetchall()
    for user, first, last in twice:
        raise UserError(f"{file}: user {user} stands in rows {first:,} and {last:,}: keep the one that is right.")
    return unsigned
