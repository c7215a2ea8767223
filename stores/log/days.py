"""Writing days anew: lines of segments sorted into runs by day, and merged with what a day was, each record once.

Memory: a batch of lines; 8 bytes for each line of a day, and about 200 for each that is there more than once.
"""

import heapq
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np

from stores.log.columns import Drop, Kind, day_of
from stores.log.parts import PartWriter
from stores.log.reader import segment_lines
from stores.log.redated import Day, First, redated
from stores.log.runs import hash_of, lines_in, write_run
from stores.log.table import PartFile, Table, table_folder

RUNS = ".runs"
MOST_OPEN = 128
"""Runs that are merged at a time: a process may have only so many files open."""
Progress = Callable[[int, int], object]


class DayWriter:
    """One compaction, from segments to parts."""

    def __init__(self, log: Path, kind: Kind, table: Table, drop: Drop | None, batch_bytes: int) -> None:
        self._folder = table_folder(log)
        self._kind = kind
        self._table = table
        self._drop = drop
        self._batch_bytes = batch_bytes
        self._now = time.time()
        self._first: First = {}
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
            write_run(path, sorted(lines, key=self._order))
            runs[day].append(path)
        held.clear()

    def settle_redated(self, runs: Mapping[Day, list[Path]]) -> frozenset[Day]:
        """Looks for events that came again with the time of another day; returns the days that are to lose some."""
        parts: dict[Day, list[Path]] = defaultdict(list)
        for part in self._table.parts:
            parts[part.day].append(self._folder / part.path)
        self._first, days = redated(self._kind, runs, parts)
        return days

    def written(self, day: Day, runs: list[Path]) -> list[PartFile]:
        """A day from its runs and from what it was: as drafts, durable."""
        known = [self._folder / part.path for part in self._table.parts if part.day == day]
        several = self._several([*runs, *known])
        seen: set[bytes] = set()
        before = chain.from_iterable(map(lines_in, known))  # the parts of a day follow one another
        writer = PartWriter(self._folder, self._kind, day, self._table.generation + 1, self._now)
        for line in heapq.merge(before, *map(lines_in, self._few(day, runs)), key=self._order):
            entry = self._kind.entry(line)
            if self._drop is not None and self._drop(line, entry):
                self.erased += 1
                continue
            identity = self._kind.identity(line, entry)
            if entry is not None and self._first.get(identity, (entry.at, line)) != (entry.at, line):
                self.duplicates += 1
                continue
            if entry is not None and hash_of(identity) in several:
                if (digest := blake2b(identity, digest_size=16).digest()) in seen:
                    self.duplicates += 1
                    continue
                seen.add(digest)
            writer.add(line, None if entry is None else entry.at)
        return writer.close()

    def _few(self, day: Day, runs: list[Path]) -> list[Path]:
        """The same lines in few enough runs: as long as there are too many, the first ones become one."""
        number = len(runs)
        while len(runs) > MOST_OPEN:
            first, path = runs[:MOST_OPEN], self._folder / RUNS / f"{day}-{number:06d}"
            write_run(path, heapq.merge(*map(lines_in, first), key=self._order))
            for one in first:
                one.unlink()
            runs = [*runs[MOST_OPEN:], path]
            number += 1
        return runs

    def _several(self, paths: Iterable[Path]) -> frozenset[int]:
        """Hashes of what may be there more than once."""
        hashes = array("Q")
        for path in paths:
            for line in lines_in(path):
                hashes.append(hash_of(self._kind.identity(line, self._kind.entry(line))))
        found = np.sort(np.frombuffer(hashes, np.uint64))
        return frozenset(found[1:][found[1:] == found[:-1]].tolist())

    def _order(self, line: bytes) -> tuple[float, bytes]:
        """By time, then by bytes: a day is the same whatever order its lines came in."""
        entry = self._kind.entry(line)
        return (0.0 if entry is None else entry.at, line)
