"""Erasing one user from the log: compaction without the user's lines, after asking running servers to seal theirs.

A user key is a keyed hash of 128 bits: a line that holds it, anywhere, is that user's.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from stores.log.columns import DECISIONS, EVENTS, Drop, Entry, kind
from stores.log.compaction import clear, compact, locked
from stores.log.cursors import Cursor, Cursors, Place
from stores.log.reader import segment_lines
from stores.log.redated import Day
from stores.log.segments import SEALED, sealed_segments
from stores.log.shipping import alone
from stores.log.table import draft, group_lines, log_files, read_table, sync_folder, table_folder


@dataclass
class InLog:
    """What the log holds of a user, or held."""

    lines: Counter[str] = field(default_factory=Counter)
    """By log."""
    decisions: set[str] = field(default_factory=set)
    """Ids of the user's decisions."""
    days: dict[str, set[Day]] = field(default_factory=dict)
    """By log: the compacted days that hold some of it."""


def find_in_log(logs: Path, user: str) -> InLog:
    """Reads all of the log, a line at a time."""
    found = InLog()
    for name in (DECISIONS, EVENTS):
        log, days = logs / name, found.days.setdefault(name, set())
        for day, line in _lines(log):
            if user.encode() not in line:
                continue
            found.lines[name] += 1
            if day is not _LIVE:
                days.add(day)
            entry = kind(name).entry(line)
            if entry is not None and name == DECISIONS:
                found.decisions.add(entry.id)
    return found


def erase_from_log(logs: Path, user: str, found: InLog, drop: Drop | None) -> None:
    """Compacts both logs without what was found, and without what `drop` leaves out besides.

    Raises UserError while something else compacts or ships.
    """

    def gone(line: bytes, entry: Entry | None) -> bool:
        return user.encode() in line or (drop is not None and drop(line, entry))

    for name in (DECISIONS, EVENTS):
        log = logs / name
        if found.lines[name]:
            compact(log, drop=gone, also=found.days[name])
        elif log.is_dir():
            with locked(log) as table:  # what a killed compaction left may hold lines of anybody
                clear(log, table, keep=True)
        _rewrite(logs, log, user)
        _rewrite_drafts(log, user)


_LIVE = object()


def _lines(log: Path) -> Iterator[tuple[object, bytes]]:
    table, live = log_files(log)
    for part in table.parts:
        for line in group_lines(table_folder(log) / part.path):
            yield part.day, line
    for path in live:
        for line in segment_lines([path]):
            yield _LIVE, line


def _rewrite(logs: Path, log: Path, user: str) -> None:
    """Without the user's lines: the segments that are compacted, and wait for a destination.

    A destination that has a part of one is sent all of it again, as places in it have changed.
    """
    with ExitStack() as held:
        cursors = Cursors(logs)
        known = [(cursor.to, held.enter_context(alone(logs, cursor.to))) for cursor in cursors.all()]
        for path in (path for path in sealed_segments(log) if path.name in read_table(log).absorbed):
            kept = _without(path, user)
            if kept is None:
                continue
            for to, _ in known:
                _begin_again(cursors, cursors.read(to), log.name, path.name)
            _replace(path, kept)


def _rewrite_drafts(log: Path, user: str) -> None:
    """Without the user's lines: what a batch that was killed had written by then, which it may go on with."""
    for path in log.glob(f".*{SEALED}.*"):
        with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is being written
            kept = _without(path, user)
            if kept is not None:
                _replace(path, kept)


def _without(path: Path, user: str) -> list[bytes] | None:
    """The other lines of a file; None where it holds none of the user's."""
    lines = list(segment_lines([path]))
    kept = [line for line in lines if user.encode() not in line]
    return kept if len(kept) < len(lines) else None


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    fresh = draft(path)
    with fresh.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _begin_again(cursors: Cursors, cursor: Cursor, log: str, segment: str) -> None:
    place = cursor.logs.get(log, Place())
    if place.segment == segment:
        again = Place(place.done, "", 0, place.sent, place.at)
        cursors.write(Cursor(cursor.to, {**cursor.logs, log: again}))
