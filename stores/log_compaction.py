"""Compaction: sealed segments become Parquet, a folder per day, by time, each record once.

In this order, so that a kill between any two steps loses nothing and doubles nothing: the lines of the sealed segments
are sorted into runs by day; each day that they touch is written anew beside what it was, from the runs and from the
day's own lines; the manifest is replaced, which is the moment when it happens; what counts no more is removed. What a
killed compaction left is removed by the next one. Memory: a batch of lines, and 8 bytes for each line of a day.
"""

import fcntl
import heapq
import shutil
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import mmh3
import numpy as np

from decisioning.errors import UserError
from stores.log_columns import Drop, Kind, day_of, kind
from stores.log_parts import PartWriter
from stores.log_reader import segment_lines
from stores.log_table import (
    PartFile,
    Table,
    draft,
    group_lines,
    read_table,
    sync_folder,
    table_folder,
    unlink,
    write_table,
)
from stores.segments import recover, sealed_segments
from stores.shipping_cursors import unshipped

BATCH_BYTES = 64 * 2**20
RUNS = ".runs"
Day = date | None
Progress = Callable[[int, int], object]


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
        work = _Work(log, kind(log.name), table, drop, batch_bytes)
        runs = work.sorted_into_runs(sealed, progress)
        parts = [part for day in sorted({*runs, *also}, key=str) for part in work.written(day, runs.get(day, []))]
        touched = {*runs, *also}
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


class _Work:
    """One compaction, from segments to parts."""

    def __init__(self, log: Path, kind: Kind, table: Table, drop: Drop | None, batch_bytes: int) -> None:
        self._folder = table_folder(log)
        self._kind = kind
        self._table = table
        self._drop = drop
        self._batch_bytes = batch_bytes
        self._now = time.time()
        self.duplicates = self.erased = 0

    def sorted_into_runs(self, sealed: list[Path], progress: Progress) -> dict[Day, list[Path]]:
        """Files of lines by day, each in the order of `_order`."""
        runs: dict[Day, list[Path]] = defaultdict(list)
        sizes = [path.stat().st_size for path in sealed]
        held: dict[Day, list[bytes]] = defaultdict(list)
        size = done = 0
        (self._folder / RUNS).mkdir(exist_ok=True)
        for path, whole in zip(sealed, sizes, strict=True):
            for line in segment_lines([path]):
                held[day_of(self._kind.entry(line))].append(line)
                size += len(line)
                if size >= self._batch_bytes:
                    self._spill(held, runs)
                    size = 0
            done += whole
            progress(done >> 20, max(1, sum(sizes) >> 20))
        self._spill(held, runs)
        return runs

    def _spill(self, held: dict[Day, list[bytes]], runs: dict[Day, list[Path]]) -> None:
        for day, lines in held.items():
            path = self._folder / RUNS / f"{day}-{len(runs[day]):06d}"
            with path.open("wb") as file:
                file.writelines(line + b"\n" for line in sorted(lines, key=self._order))
            runs[day].append(path)
        held.clear()

    def written(self, day: Day, runs: list[Path]) -> list[PartFile]:
        """A day from its runs and from what it was: as drafts, durable."""
        known = [self._folder / part.path for part in self._table.parts if part.day == day]
        several = self._several([*runs, *known])
        seen: set[bytes] = set()
        with ExitStack() as open_files:
            merged = heapq.merge(*(self._lines(path, open_files) for path in (*known, *runs)), key=self._order)
            writer = PartWriter(self._folder, self._kind, day, self._table.generation + 1, self._now)
            for line in merged:
                entry = self._kind.entry(line)
                if self._drop is not None and self._drop(line, entry):
                    self.erased += 1
                    continue
                identity = self._kind.identity(line, entry)
                if entry is not None and _hash(identity) in several:
                    if identity in seen:
                        self.duplicates += 1
                        continue
                    seen.add(identity)
                writer.add(line, None if entry is None else entry.at)
            return writer.close()

    def _lines(self, path: Path, open_files: ExitStack) -> Iterator[bytes]:
        if path.suffix == ".parquet":
            return group_lines(path)
        file = open_files.enter_context(path.open("rb"))
        return (line[:-1] for line in file)

    def _several(self, paths: Iterable[Path]) -> frozenset[int]:
        """Hashes of what may be there more than once."""
        hashes = array("Q")
        with ExitStack() as open_files:
            for path in paths:
                for line in self._lines(path, open_files):
                    hashes.append(_hash(self._kind.identity(line, self._kind.entry(line))))
        found = np.sort(np.frombuffer(hashes, np.uint64))
        return frozenset(found[1:][found[1:] == found[:-1]].tolist())

    def _order(self, line: bytes) -> tuple[float, bytes]:
        """By time, then by bytes: a day is the same whatever order its lines came in."""
        entry = self._kind.entry(line)
        return (0.0 if entry is None else entry.at, line)


def _hash(identity: bytes) -> int:
    return mmh3.hash64(identity, signed=False)[0]
