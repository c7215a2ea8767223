"""The usable events of a span of time in a table of DuckDB, each once, as tallies want them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from duckdb import DuckDBPyConnection

from decisioning.errors import UserError
from features.source_files import SourceFile
from features.sources import BAD_ROWS, EventSource, events, moment_sql, quoted

HASHES_AT_ONCE = 50_000_000
ID = "event_id"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What tallies need of the events, so that the table is small and quick to group.

    Then `person` stands in place of `user_id`: the number that the table `persons` gives to everybody of whom anything
    happened, with how many `events` there are of each that are not from before `new_from`.
    """

    horizons: Mapping[str, int] | None
    """How many seconds back events of each type matter, and no other types do; None where all events may."""
    new_from: datetime | None


def load_events(
    connection: DuckDBPyConnection,
    source: EventSource,
    files: Sequence[SourceFile],
    span: tuple[datetime | None, datetime],
    wanted: Wanted | None = None,
) -> int:
    """Makes the table `events`, with the columns of `tallies.SEEN`, of what happened in a span of time.

    `span` is its first moment (None for all of the past) and the one that is too late. Rows that are equal in every
    column, the `event_id` among them where there is one, are one event; returns how many rows only repeat another,
    where any that is wanted does. Raises UserError where two different events have one id.
    """
    since, moment = span
    spotted = any(file.left_out for file in files)
    events(connection, "loaded", [(source.data / file.name, file.until) for file in files], told=spotted)
    within = f'"at" < {moment_sql(moment)}' + (f' AND "at" >= {moment_sql(since)}' if since else "")
    if spotted:
        within += "".join(f" AND ({bad}) IS NOT TRUE" for bad in BAD_ROWS.values())
    rows = f"SELECT * {'EXCLUDE (file, row, until)' if spotted else ''} FROM loaded WHERE {within}"
    columns = [name for name, *_ in connection.execute(f"DESCRIBE {rows}").fetchall()]
    _load(connection, rows, moment, wanted)
    # Few share a user and a moment, and only those can be equal; an id says it by itself.
    user = "user_id" if wanted is None else "person"
    whole = [user, *(name for name in columns if name != "user_id")]
    table, keys = (f"({rows})", ([ID],)) if ID in columns else ("events", ([user, "at"], whole))
    at_most = sum(file.rows for file in files)
    if not all(_may_repeat(connection, table, key, at_most) for key in keys):
        return 0
    once = f"SELECT DISTINCT * FROM ({rows})"
    if ID in columns:
        _refuse_shared_ids(connection, once)
    _load(connection, once, moment, wanted)
    return _one(connection, f"SELECT (SELECT count(*) FROM ({rows})) - (SELECT count(*) FROM ({once}))")


def _load(connection: DuckDBPyConnection, rows: str, moment: datetime, wanted: Wanted | None) -> None:
    # What `portable.seconds` gives, without the calendar.
    age = f'epoch_us({moment_sql(moment)}) // 1000000 - epoch_us("at") // 1000000 AS age'
    if wanted is None:
        made = f'SELECT user_id, "at", "type", item, amount, hour, {age} FROM ({rows})'
    else:
        new = f' FILTER ("at" >= {moment_sql(wanted.new_from)})' if wanted.new_from else ""
        counted = f"SELECT user_id, count(*){new} AS events, count(*) AS events_read FROM ({rows}) GROUP BY user_id"
        numbered = f"SELECT *, (row_number() OVER ())::INTEGER AS person FROM ({counted})"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE persons AS {numbered}")
        aged = f'SELECT user_id, "at", "type", item, amount, hour, {age} FROM ({rows})'
        made = f'SELECT person, "at", "type", item, amount, hour, age FROM ({aged}) JOIN persons USING (user_id)'
        if wanted.horizons is not None:
            _make_horizons(connection, wanted.horizons)
            made = (
                'SELECT person, "at", kind AS "type", item, amount, hour, age FROM '
                f'({aged}) JOIN horizons USING ("type") JOIN persons USING (user_id) WHERE age <= seconds'
            )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE events AS {made}")


def _make_horizons(connection: DuckDBPyConnection, horizons: Mapping[str, int]) -> None:
    """A row for each type: as a text, as a number that looks like it (an enum), and how far back it matters."""
    types = ", ".join(map(quoted, horizons)) or "''"
    connection.execute(f'CREATE OR REPLACE TEMP TABLE horizons ("type" VARCHAR, kind ENUM ({types}), seconds BIGINT)')
    for type, seconds in horizons.items():
        connection.execute("INSERT INTO horizons VALUES (?, ?, ?)", (type, type, seconds))


def _may_repeat(connection: DuckDBPyConnection, table: str, columns: list[str], at_most: int) -> bool:
    """Whether anything may stand twice: sorted hashes tell it quickly, and what they can't tell apart is compared."""
    key = "hash(" + ", ".join(f'"{name}"' for name in columns) + ")"
    parts = 1 + at_most // HASHES_AT_ONCE
    for part in range(parts):
        chosen = f"WHERE {key} % {parts} = {part}" if parts > 1 else ""
        hashes = connection.execute(f"SELECT {key} AS key FROM {table} {chosen}").fetchnumpy()["key"]
        hashes.sort()
        if np.any(hashes[1:] == hashes[:-1]):
            return True
    return False


def _refuse_shared_ids(connection: DuckDBPyConnection, rows: str) -> None:
    shared = connection.execute(
        f'SELECT {ID}, count(*), min("at"), max("at") FROM ({rows}) WHERE {ID} IS NOT NULL '
        f"GROUP BY {ID} HAVING count(*) > 1 ORDER BY {ID} LIMIT 1"
    ).fetchall()
    for name, number, first, last in shared:
        raise UserError(
            f"{number} different events have the event_id {name} (at {first} and {last}): an id names one event. "
            "Mend what writes them; rows that are equal in every column may stand twice."
        )


def _one(connection: DuckDBPyConnection, query: str) -> int:
    return connection.execute(query).fetchall()[0][0]
