"""Where events and users lie, and which of their rows can be used.

Events are one file, `events.parquet`, or daily partitions, `events/day=YYYY-MM-DD/*.parquet`; users, `users.parquet`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from decisioning.errors import UserError

ONE_FILE, FOLDER, USERS = "events.parquet", "events", "users.parquet"
EARLIEST, LARGEST = datetime(2000, 1, 1, tzinfo=UTC), 1e9
"""No event was before, and no amount is beyond: a clock that was never set, a number that overflowed."""

NOTHING = (
    'NULL::TIMESTAMPTZ AS "at", NULL::VARCHAR AS user_id, NULL::VARCHAR AS "type", NULL::VARCHAR AS item, '
    "NULL::DOUBLE AS amount, NULL::BIGINT AS hour"
)
AMOUNT = "CASE WHEN isnan(amount::DOUBLE) THEN 'NaN'::DOUBLE ELSE amount::DOUBLE END"
"""The amount, as it is. A file's least and greatest leave out what is no number, and DuckDB would go by them."""
BAD_ROWS: Mapping[str, str] = {
    "without_user": "user_id IS NULL",
    "without_time": '"at" IS NULL',
    "without_type": '"type" IS NULL',
    "before_2000": f"\"at\" < TIMESTAMPTZ '{EARLIEST}'",
    "after_the_end": '"at" > until',
    "impossible_amount": f"NOT isfinite(amount) OR amount NOT BETWEEN 0 AND {LARGEST}",
    "impossible_hour": "hour NOT BETWEEN 0 AND 23",
}
"""Why an event is left out, and the rows that this is true of. `until` is the end of what its file may hold."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """The files of events of a data folder, oldest day first, and the moment up to which they tell what happened."""

    data: Path
    files: tuple[tuple[Path, datetime], ...]
    """Each with the end of what it may hold."""
    until: datetime
    days: tuple[date, ...] = ()
    """Of the partitions; none where the events are one file."""

    def before(self, moment: datetime) -> tuple[tuple[Path, datetime], ...]:
        """The files that may tell of anything before a moment: later partitions have nothing to do with it."""
        day = timedelta(days=1)
        return tuple(item for item in self.files if not self.days or item[1] - day < moment)


def has_events(data: Path, dataset: Mapping[str, Any]) -> bool:
    """Whether features come from events here, and not from imported facts.

    Raises UserError where one of the two tables is gone: what the facts say instead is old, and not of everybody.
    """
    events, users = (data / ONE_FILE).is_file() or (data / FOLDER).is_dir(), (data / USERS).is_file()
    if not events and (users or "events" in dataset.get("rows", {})):
        raise UserError(f"There are no events in {data}, though it had them: bring back {ONE_FILE} or {FOLDER}/day=….")
    if events and not users:
        raise UserError(f"There is no {USERS} in {data}, and events tell nothing without it: bring it back.")
    return events


def find_events(data: Path, dataset: Mapping[str, Any]) -> EventSource:
    """Raises UserError where there are both kinds, a folder that is no day, no file at all, or no end."""
    one, folder = data / ONE_FILE, data / FOLDER
    if one.is_file() and folder.is_dir():
        raise UserError(f"{data} has both {ONE_FILE} and {FOLDER}/: keep the one that counts.")
    if one.is_file():
        if "until" not in dataset:
            raise UserError(f"{data / 'dataset.json'} doesn't say `until` when the events tell: add it, as ISO time.")
        until = utc(datetime.fromisoformat(dataset["until"]))
        return EventSource(data, ((one, until),), until)
    files, days = [], []
    for part in sorted(item for item in folder.iterdir() if not item.name.startswith((".", "_"))):
        day = _day_of(part)
        found = sorted(part.glob("*.parquet"))
        end = start_of(day) + timedelta(days=1)
        files += [(file, end) for file in found]
        days += [day] * bool(found)
    if not files:
        raise UserError(f"{folder} holds no events: put Parquet files into day=YYYY-MM-DD folders in it.")
    return EventSource(data, tuple(files), start_of(days[-1]) + timedelta(days=1), tuple(days))


def _day_of(folder: Path) -> date:
    name, _, day = folder.name.partition("=")
    try:
        if name == "day" and folder.is_dir():
            return date.fromisoformat(day)
    except ValueError:
        pass
    raise UserError(f"{folder} is no daily partition: they are folders named day=YYYY-MM-DD.")


def start_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def utc(moment: datetime) -> datetime:
    """A moment without a time zone is meant in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def events(
    connection: DuckDBPyConnection, name: str, files: Iterable[tuple[Path, datetime]], *, told: bool = False
) -> None:
    """Makes a view of the files with the columns of events in their exact types, and `event_id` where all have it.

    All rows are in it. `told`: with their `file`, `row` (from 1) and `until`, of which `BAD_ROWS` speaks.
    """
    files = list(files)
    if not files:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {NOTHING} WHERE false")
        return
    connection.execute("CREATE OR REPLACE TEMP TABLE source_files (file VARCHAR, until TIMESTAMPTZ)")
    connection.executemany("INSERT INTO source_files VALUES (?, ?)", [(str(path), until) for path, until in files])
    paths = ", ".join(path_sql(path) for path, _ in files)
    read = (
        f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false, "
        "filename = 'file', file_row_number = true)"
    )
    types = _types(connection, read)
    columns = (
        f'{_cut("at", types)} AS "at", user_id::VARCHAR AS user_id, "type"::VARCHAR AS "type", '
        f"item::VARCHAR AS item, {AMOUNT} AS amount, hour::BIGINT AS hour"
    )
    if "event_id" in types:
        columns += ", event_id::VARCHAR AS event_id"
    if told:
        ends = {until for _, until in files}
        until = f"{moment_sql(ends.pop())} AS until" if len(ends) == 1 else "until"
        columns += f", file, file_row_number + 1 AS row, {until}"
        read += " JOIN source_files USING (file)" if ends else ""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {columns} FROM {read}")


def users(connection: DuckDBPyConnection, name: str, file: Path) -> None:
    """Makes a view of the users with the columns that features may use, in their exact types."""
    read = f"read_parquet({path_sql(file)})"
    types = _types(connection, read)
    moments = ", ".join(f"{_cut(column, types)} AS {column}" for column in ("signup_at", "born_at"))
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS "
        f"SELECT user_id::VARCHAR AS user_id, {moments}, market::VARCHAR AS market FROM {read}"
    )


def _types(connection: DuckDBPyConnection, read: str) -> Mapping[str, str]:
    return {column: type for column, type, *_ in connection.execute(f"DESCRIBE SELECT * FROM {read}").fetchall()}


def _cut(column: str, types: Mapping[str, str]) -> str:
    """A moment in microseconds; those of nanoseconds are cut, where a cast would round some of them up."""
    is_fine = types[column].endswith("_NS")
    return f'make_timestamptz(epoch_ns("{column}") // 1000)' if is_fine else f'"{column}"::TIMESTAMPTZ'


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def path_sql(path: Path) -> str:
    """One file, whatever it is called: what would be a pattern to DuckDB is only a character."""
    return quoted("".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path)))


def moment_sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ {quoted(utc(moment).isoformat(sep=' '))}"
