"""Retention: whole days of the log go, by the days of its lines (UTC), and never the day that it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from stores.log.columns import DECISIONS, EVENTS, Kind, day_of, kind
from stores.log.compaction import clear, locked
from stores.log.cursors import unshipped
from stores.log.reader import segment_lines
from stores.log.segments import recover, sealed_segments
from stores.log.table import NO_DAY, Table, read_table, write_table


@dataclass(frozen=True, slots=True)
class Old:
    """What is old enough to go: a day of the compacted log, or a segment none of whose lines is younger."""

    log: str
    name: str
    """The day, or the segment's file."""
    lines: int | None
    """Known of compacted days."""
    size: int
    """Bytes of lines."""
    stays: str = ""
    """Why it stays all the same."""


def prune(logs: Path, before: date, *, now: float, dry_run: bool = False) -> list[Old]:
    """Drops all that is of a day before `before`, at most of yesterday; returns what it was, or would be.

    Segments with both older and younger lines stay until they are compacted. Lines that nobody can read go when they
    have been compacted for so long. What a destination of `segue logs ship` waits for stays, and is named.
    """
    before = min(before, datetime.fromtimestamp(now, UTC).date())
    found = []
    for name in (DECISIONS, EVENTS):
        log = logs / name
        if dry_run:
            found += [*_old_days(name, read_table(log), before), *_old_segments(log, before)]
            continue
        if not log.is_dir() and not read_table(log).parts:
            continue
        with locked(log) as table:
            recover(log)
            segments = list(_old_segments(log, before))
            found += [*_old_days(name, table, before), *segments]
            young = tuple(part for part in table.parts if not _is_old(part.day, part.written, before))
            if young != table.parts:
                table = Table(table.generation + 1, young, table.absorbed)
                write_table(log, table)
            for one in segments:
                if not one.stays:
                    (log / one.name).unlink()
            clear(log, table, keep=True)
    return found


def _old_days(name: str, table: Table, before: date) -> Iterator[Old]:
    days: dict[str, tuple[int, int]] = {}
    for part in table.parts:
        if _is_old(part.day, part.written, before):
            day = str(part.day or NO_DAY)
            rows, size = days.get(day, (0, 0))
            days[day] = rows + part.rows, size + part.size
    return (Old(name, day, rows, size) for day, (rows, size) in days.items())


def _is_old(day: date | None, written: float, before: date) -> bool:
    return (day or datetime.fromtimestamp(written, UTC).date()) < before


def _old_segments(log: Path, before: date) -> Iterator[Old]:
    waited_for = unshipped(log)
    for path in sealed_segments(log):
        if _last_day(kind(log.name), path) < before:
            why = "it is not shipped yet: see `segue logs status`" if path.name in waited_for else ""
            yield Old(log.name, path.name, None, path.stat().st_size, why)


def _last_day(log: Kind, path: Path) -> date:
    """Of the youngest line; where none can be read, when the segment was written."""
    days = [day for line in segment_lines([path]) if (day := day_of(log.entry(line))) is not None]
    return max(days, default=datetime.fromtimestamp(path.stat().st_mtime, UTC).date())
