"""What each file of events holds, whether it has changed, and how much of it can't be used: see `source_checks`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from features.sources import BAD_ROWS, EARLIEST, LARGEST, EventSource, events, utc

BLOCK = 1 << 20


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
    events(connection, "described", [(path, file.until) for path, file in fresh], told=True)
    rows = connection.execute(
        'SELECT file, count(*), min("at"), max("at"), least(count(user_id), count("at"), count("type")), '
        "coalesce(min(amount), 0), coalesce(max(amount), 0), coalesce(min(hour), 0), coalesce(max(hour), 0) "
        "FROM described GROUP BY file"
    ).fetchall()
    looks = {file: look for file, *look in rows}
    described, wrong = [], []
    for path, file in fresh:
        total, first, last, filled, least, most, *hours = looks.get(str(path), (0, None, None, 0, 0, 0, 0, 0))
        usual = filled == total and least >= 0 and most <= LARGEST  # not a number is above all numbers
        usual = usual and min(hours) >= 0 and max(hours) <= 23
        if total and not (usual and utc(first) >= EARLIEST and utc(last) <= file.until):
            wrong.append((path, file))
        described.append(replace(file, rows=total, first=first and utc(first), last=last and utc(last)))
    counted = _count_bad_rows(connection, wrong)
    return [counted.get(file.name, file) for file in described]


def _count_bad_rows(connection: DuckDBPyConnection, wrong: list[tuple[Path, SourceFile]]) -> dict[str, SourceFile]:
    """By name: how much of these files is left out, and the first and last of what is not."""
    if not wrong:
        return {}
    events(connection, "described", [(path, file.until) for path, file in wrong], told=True)
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
