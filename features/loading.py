"""The usable events of a span of time in a table of DuckDB, each once, as tallies want them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from duckdb import DuckDBPyConnection

from decisioning.errors import UserError
from features.sources import events, moment_sql, quoted

HASHES_AT_ONCE = 50_000_000
ID = "event_id"


def load_events(
    connection: DuckDBPyConnection,
    files: Sequence[tuple[Path, datetime]],
    at_most: int,
    span: tuple[datetime | None, datetime],
    types: frozenset[str] | None,
) -> dict[str, int]:
    """Makes the table `events`, with the columns of `tallies.SEEN`, of what happened in a span of time.

    `span` is its first moment (None for all of the past) and the one that is too late; the files hold `at_most` so many
    rows. Rows that are equal in every column, the `event_id` among them where there is one, are one event. `types` are
    those that matter, which saves room: the other events have none. Returns how many events there are, and how many
    rows only repeat one. Raises UserError where two different events have one id.
    """
    since, moment = span
    if not files:
        connection.execute(f"CREATE TEMP TABLE events AS {_computed(f'SELECT {_NOTHING} WHERE false', moment, types)}")
        return {"events_read": 0, "repeated": 0}
    events(connection, "usable", files)
    within = f'"at" < {moment_sql(moment)}' + (f' AND "at" >= {moment_sql(since)}' if since else "")
    columns = [name for name, *_ in connection.execute("DESCRIBE usable").fetchall()]
    rows = f"SELECT * FROM usable WHERE {within}"
    connection.execute(f"CREATE TEMP TABLE events AS {_computed(rows, moment, types)}")
    total = _one(connection, "SELECT count(*) FROM events")
    # Few share a user and a moment, and only those can be equal; an id says it by itself.
    table, keys = (f"({rows})", ([ID],)) if ID in columns else ("events", (["user_id", "at"], columns))
    if all(_may_repeat(connection, table, key, at_most) for key in keys):
        rows = f"SELECT DISTINCT * FROM ({rows})"
        if ID in columns:
            _refuse_shared_ids(connection, rows)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE events AS {_computed(rows, moment, types)}")
    loaded = _one(connection, "SELECT count(*) FROM events")
    return {"events_read": loaded, "repeated": total - loaded}


_NOTHING = (
    'NULL::TIMESTAMPTZ AS "at", NULL::VARCHAR AS user_id, NULL::VARCHAR AS "type", NULL::VARCHAR AS item, '
    "NULL::DOUBLE AS amount, NULL::BIGINT AS hour"
)


def _computed(rows: str, moment: datetime, types: frozenset[str] | None) -> str:
    """With the whole seconds from each event to the moment: what `portable.seconds` gives, without the calendar."""
    if types:
        kind = f"ENUM ({', '.join(quoted(type) for type in sorted(types))})"
        type = f'TRY_CAST("type" AS {kind}) AS "type"'
    else:
        type = '"type"'
    age = f'epoch_us({moment_sql(moment)}) // 1000000 - epoch_us("at") // 1000000 AS age'
    return f'SELECT user_id, "at", {type}, item, amount, hour, {age} FROM ({rows})'


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
