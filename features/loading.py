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
    types: frozenset[str] | None = None,
    *,
    numbered: bool = False,
) -> dict[str, int]:
    """Makes the table `events`, with the columns of `tallies.SEEN`, of what happened in a span of time.

    `span` is its first moment (None for all of the past) and the one that is too late; the files hold `at_most` so many
    rows. Rows that are equal in every column, the `event_id` among them where there is one, are one event.

    For tallies the table is smaller and quicker to group: of other `types` than those that matter (None: all do) an
    event has none; `numbered` puts `person` in place of `user_id`, the number that the table `persons` gives to each.
    Returns how many events there are, and how many rows only repeat one. Raises UserError where two different events
    have one id.
    """
    since, moment = span
    events(connection, "usable", files)
    within = f'"at" < {moment_sql(moment)}' + (f' AND "at" >= {moment_sql(since)}' if since else "")
    columns = [name for name, *_ in connection.execute("DESCRIBE usable").fetchall()]
    rows = f"SELECT * FROM usable WHERE {within}"
    if numbered:
        connection.execute(
            "CREATE TEMP TABLE persons AS SELECT user_id, (row_number() OVER ())::INTEGER AS person "
            f"FROM (SELECT DISTINCT user_id FROM ({rows}))"
        )
    user = "person" if numbered else "user_id"
    connection.execute(f"CREATE TEMP TABLE events AS {_computed(rows, moment, types, user)}")
    total = _one(connection, "SELECT count(*) FROM events")
    # Few share a user and a moment, and only those can be equal; an id says it by itself.
    whole = [user, *(name for name in columns if name != "user_id")]
    table, keys = (f"({rows})", ([ID],)) if ID in columns else ("events", ([user, "at"], whole))
    if all(_may_repeat(connection, table, key, at_most) for key in keys):
        rows = f"SELECT DISTINCT * FROM ({rows})"
        if ID in columns:
            _refuse_shared_ids(connection, rows)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE events AS {_computed(rows, moment, types, user)}")
    loaded = _one(connection, "SELECT count(*) FROM events")
    return {"events_read": loaded, "repeated": total - loaded}


def _computed(rows: str, moment: datetime, types: frozenset[str] | None, user: str) -> str:
    """With the whole seconds from each event to the moment: what `portable.seconds` gives, without the calendar."""
    age = f'epoch_us({moment_sql(moment)}) // 1000000 - epoch_us("at") // 1000000 AS age'
    kind = '"type"'
    if types:
        kind = f"TRY_CAST({kind} AS ENUM ({', '.join(quoted(type) for type in sorted(types))})) AS {kind}"
    people = " JOIN persons USING (user_id)" if user == "person" else ""
    return f'SELECT {user}, "at", {kind}, item, amount, hour, {age} FROM ({rows}){people}'


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
