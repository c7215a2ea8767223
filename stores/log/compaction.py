"""Compaction: sealed segments become Parquet, a folder per day, by time, each record once.

In this order, so that a kill between any two steps loses nothing and doubles nothing: the lines of the sealed segments
are sorted into runs by day; each day that they touch is written anew beside what it was, from the runs and from the
day's own lines; the manifest is replaced, which is the moment when it happens; what counts no more is removed. What a
killed compaction left is removed by the next one.
"""

import fcntl
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from decisioning.errors import UserError
from stores.log.columns import Drop, kind
from stores.log.cursors import unshipped
from stores.log.days import RUNS, DayWriter, Progress
from stores.log.redated import Day
from stores.log.segments import recover, sealed_segments
from stores.log.table import (
    PartFile,
    Table,
    draft,
    read_table,
    sync_folder,
    table_folder,
    unlink,
    write_table,
)

BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did."""

    segments: int = 0
    lines: int = 0
    """Of the days that were written."""
    duplicates: int = 0
    erased: int = 0
    days: tuple[str, ...] = ()
    waiting: int = 0
    """Segments that stay on disk, though they count no more: to be kept, or not yet shipped."""


def compact(
    log: Path,
    *,
    keep: bool = False,
    drop: Drop | None = None,
    also: Collection[Day] = (),
    batch_bytes: int = BATCH_BYTES,
    progress: Progress = lambda done, total: None,
) -> Compacted:
    """Takes the sealed segments of a log (`logs/decisions` or `logs/events`) into its table; with `keep` they stay.

    `drop` leaves records out, of what is new and of the days that are written anew; `also` names days that are to be
    written anew though nothing new belongs to them. `progress` is told of megabytes read. Nothing to do is no mistake.
    Raises UserError while another compaction is at work, and OSError where the disk refuses; then nothing has changed.
    """
    with locked(log) as table:
        recover(log)
        sealed = [path for path in sealed_segments(log) if path.name not in table.absorbed]
        if not sealed and not also:
            return Compacted(waiting=clear(log, table, keep=keep))
        work = DayWriter(log, kind(log.name), table, drop, batch_bytes)
        runs = work.sorted_into_runs(sealed, progress)
        touched = {*runs, *also, *work.settle_redated(runs)}
        parts = [part for day in sorted(touched, key=str) for part in work.written(day, runs.get(day, []))]
        kept = [part for part in table.parts if part.day not in touched]
        still = {path.name for path in sealed_segments(log)}
        table = Table(
            table.generation + 1,
            tuple(sorted((*kept, *parts), key=lambda part: (str(part.day or ""), part.name))),
            frozenset(still & (table.absorbed | {path.name for path in sealed})),
        )
        _publish(log, parts)
        write_table(log, table)
        waiting = clear(log, table, keep=keep)
        shutil.rmtree(table_folder(log) / RUNS, ignore_errors=True)
    days = tuple(sorted(str(day or "without a moment") for day in touched))
    return Compacted(len(sealed), sum(part.rows for part in parts), work.duplicates, work.erased, days, waiting)


@contextmanager
def locked(log: Path) -> Iterator[Table]:
    """The table of a log, for the only one that changes it, without what a killed one left. Raises UserError."""
    folder = table_folder(log)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another process changes {folder}: wait until it ends, then run this again.") from None
        table = read_table(log)
        shutil.rmtree(folder / RUNS, ignore_errors=True)
        _remove_strays(folder, table)
        for path in log.glob(".*.draft"):
            unlink(path)
        yield table


def clear(log: Path, table: Table, *, keep: bool) -> int:
    """Removes parts and segments that count no more. Returns how many of the segments stay."""
    _remove_strays(table_folder(log), table)
    if keep:
        return len(table.absorbed)
    waiting = unshipped(log) & table.absorbed
    for name in sorted(table.absorbed - waiting):
        unlink(log / name)
    return sum((log / name).exists() for name in waiting)


def _remove_strays(folder: Path, table: Table) -> None:
    named = {part.path for part in table.parts}
    for path in (*folder.glob("day=*/part-*.parquet"), *folder.glob("day=*/.part-*.draft")):
        if f"{path.parent.name}/{path.name}" not in named:
            unlink(path)
    for day in folder.glob("day=*"):
        with suppress(OSError):  # it is not empty
            day.rmdir()


def _publish(log: Path, parts: Iterable[PartFile]) -> None:
    """Drafts get their names, durably; nobody counts them yet."""
    for part in parts:
        path = table_folder(log) / part.path
        draft(path).rename(path)
        sync_folder(path.parent)
    sync_folder(table_folder(log))
