"""Where events and users lie, what each file holds, and which of its rows can be used.

Events are one file, `events.parquet`, or daily partitions, `events/day=YYYY-MM-DD/*.parquet`; users, `users.parquet`.
Of each file is kept what tells whether it has changed, and how much of it was left out: see `source_checks`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from decisioning.errors import UserError

ONE_FILE, FOLDER, USERS = "events.parquet", "events", "users.parquet"
BLOCK = 1 << 20
EARLIEST, LARGEST = datetime(2000, 1, 1, tzinfo=UTC), 1e12
"""No event was before, and no amount is beyond: a clock that was never set, a number that overflowed."""

NOTHING = (
    'NULL::TIMESTAMPTZ AS "at", NULL::VARCHAR AS user_id, NULL::VARCHAR AS "type", NULL::VARCHAR AS item, '
    "NULL::DOUBLE AS amount, NULL::BIGINT AS hour"
)
BAD_ROWS: Mapping[str, str] = {
    "without_user": "user_id IS NULL",
    "without_time": '"at" IS NULL',
    "without_type": '"type" IS NULL',
    "before_2000": f"\"at\" < TIMESTAMPTZ '{EARLIEST}'",
    "after_the_end": '"at" > until',
    "impossible_amount": f"NOT isfinite(amount) OR abs(amount) > {LARGEST}",
}
"""Why an event is left out, and the rows that this is true of. `until` is the end of what its file may hold."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of events. Two of one `name` and `digest` hold the same."""

    name: str
    """Its path below the data folder."""
    digest: str
    size: int
    changed_ns: int
    until: datetime
    """No event of it can be later: it was written then."""
    rows: int = 0
    first: datetime | None = None
    """Of its usable events; None where there are none."""
    last: datetime | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many rows for each of `BAD_ROWS` that occurs."""

    def to_json(self) -> dict[str, Any]:
        return {name: _said(value) for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> "SourceFile":
        moments = {name: datetime.fromisoformat(obj[name]) for name in ("until", "first", "last") if name in obj}
        return cls(**{**obj, **moments})


def _said(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


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


def has_events(data: Path) -> bool:
    return ((data / ONE_FILE).is_file() or (data / FOLDER).is_dir()) and (data / USERS).is_file()


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


def fingerprint(file: Path) -> str:
    """SHA-256 of its content."""
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def describe(
    connection: DuckDBPyConnection,
    source: EventSource,
    moment: datetime,
    known: Mapping[str, SourceFile],
) -> tuple[SourceFile, ...]:
    """What each file that may tell of anything before `moment` holds. Those as in `known` aren't read again.

    A file is as it was if it has the size and the time of change that it had then, or else the same content. The others
    must have passed `source_checks.check_columns`.
    """
    found: dict[Path, SourceFile] = {}
    fresh: list[tuple[Path, SourceFile]] = []
    for path, until in source.before(moment):
        stat, name = path.stat(), path.relative_to(source.data).as_posix()
        old = known.get(name)
        stays = old is not None and old.until == until
        same = stays and (old.size, old.changed_ns) == (stat.st_size, stat.st_mtime_ns)
        digest = old.digest if same else fingerprint(path)
        if stays and old.digest == digest:
            found[path] = replace(old, size=stat.st_size, changed_ns=stat.st_mtime_ns)
        else:
            fresh.append((path, SourceFile(name, digest, stat.st_size, stat.st_mtime_ns, until)))
    found.update(zip((path for path, _ in fresh), _read(connection, fresh), strict=True))
    return tuple(found[path] for path, _ in source.before(moment))


def _read(connection: DuckDBPyConnection, fresh: list[tuple[Path, SourceFile]]) -> list[SourceFile]:
    """The same records with what the files hold: one pass over all of them, and one more over those that look wrong."""
    if not fresh:
        return []
    events(connection, "described", [(path, file.until) for path, file in fresh], clean=False)
    rows = connection.execute(
        'SELECT file, count(*), min("at"), max("at"), least(count(user_id), count("at"), count("type")), '
        "coalesce(min(amount), 0), coalesce(max(amount), 0) FROM described GROUP BY file"
    ).fetchall()
    looks = {file: look for file, *look in rows}
    described, wrong = [], []
    for path, file in fresh:
        total, first, last, filled, least, most = looks.get(str(path), (0, None, None, 0, 0, 0))
        usual = filled == total and least >= -LARGEST and most <= LARGEST  # not a number is above all numbers
        if total and not (usual and utc(first) >= EARLIEST and utc(last) <= file.until):
            wrong.append((path, file))
        described.append(replace(file, rows=total, first=first and utc(first), last=last and utc(last)))
    counted = _count_bad_rows(connection, wrong)
    return [counted.get(file.name, file) for file in described]


def _count_bad_rows(connection: DuckDBPyConnection, wrong: list[tuple[Path, SourceFile]]) -> dict[str, SourceFile]:
    """By name: how much of these files is left out, and the first and last of what is not."""
    if not wrong:
        return {}
    events(connection, "described", [(path, file.until) for path, file in wrong], clean=False)
    bad = " OR ".join(f"({condition})" for condition in BAD_ROWS.values())
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in BAD_ROWS.values())
    rows = connection.execute(
        f'SELECT file, count(*), min("at") FILTER (({bad}) IS NOT TRUE), max("at") FILTER (({bad}) IS NOT TRUE), '
        f"{counts} FROM described GROUP BY file"
    ).fetchall()
    files, found = {str(path): file for path, file in wrong}, {}
    for path, total, first, last, *counted in rows:
        file = files[path]
        left_out = {name: number for name, number in zip(BAD_ROWS, counted, strict=True) if number}
        span = {"first": first and utc(first), "last": last and utc(last)}
        found[file.name] = replace(file, rows=total, **span, left_out=left_out)
    return found


def events(
    connection: DuckDBPyConnection, name: str, files: Iterable[tuple[Path, datetime]], *, clean: bool = True
) -> None:
    """Makes a view of the files with the columns of events in their exact types, and `event_id` where all have it.

    `clean` leaves out the rows of `BAD_ROWS`; else they are all there, with `file`, `row` (from 1) and `until`.
    """
    files = list(files)
    if not files:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {NOTHING} WHERE false")
        return
    connection.execute("CREATE OR REPLACE TEMP TABLE source_files (file VARCHAR, until TIMESTAMPTZ)")
    connection.executemany("INSERT INTO source_files VALUES (?, ?)", [(str(path), until) for path, until in files])
    paths = ", ".join(quoted(str(path)) for path, _ in files)
    read = (
        f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false, "
        "filename = 'file', file_row_number = true)"
    )
    types = _types(connection, read)
    columns = (
        f'{_cut("at", types)} AS "at", user_id::VARCHAR AS user_id, "type"::VARCHAR AS "type", '
        "item::VARCHAR AS item, amount::DOUBLE AS amount, hour::BIGINT AS hour"
    )
    if "event_id" in types:
        columns += ", event_id::VARCHAR AS event_id"
    ends = {until for _, until in files}
    until = moment_sql(next(iter(ends))) if len(ends) == 1 else "until"
    source = read if len(ends) == 1 else f"{read} JOIN source_files USING (file)"
    rows = f"SELECT {columns}, file, file_row_number + 1 AS row, {until} AS until FROM {source}"
    if clean:
        bad = " AND ".join(f"({condition}) IS NOT TRUE" for condition in BAD_ROWS.values())
        rows = f"SELECT * EXCLUDE (file, row, until) FROM ({rows}) WHERE {bad}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows}")


def users(connection: DuckDBPyConnection, name: str, file: Path) -> None:
    """Makes a view of the users with the columns that features may use, in their exact types."""
    read = f"read_parquet({quoted(str(file))})"
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


def moment_sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ {quoted(utc(moment).isoformat(sep=' '))}"
