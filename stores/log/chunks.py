"""Logs in parts that processes can share out, from a moment on, a bounded piece at a time.

A part is a byte range of a live segment, or a row group of a compacted day: `lines` reads either.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from stores.log.reader import Moment
from stores.log.segments import by_writer
from stores.log.table import group_lines, log_files, opened_segment, row_groups, table_folder

CHUNK_BYTES = 32 * 2**20
DISORDER = 60.0
"""Seconds by which a writer's lines may be out of order: requests that overlap end in any order."""
_TAIL = 2**18


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a segment: the lines that begin in [start, end)."""

    path: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Part of a compacted day. `size`: bytes of its lines."""

    path: Path
    group: int
    size: int


Part = Chunk | RowGroup


def chunks(folder: Path, since: float | None, at: Moment, size: int = CHUNK_BYTES) -> tuple[Part, ...]:
    """The log in parts of about `size` bytes (a compacted day's are as they were written), without what ends before.

    `at` gives the time of a line, and raises ValueError for what is none. A writer's segment has ended where its next
    one begins. Lines before `since` may still be among the first ones.
    """
    since = None if since == -inf else since
    table, live = log_files(folder)
    found: list[Part] = []
    for part in table.parts:
        if since is None or (part.last is not None and part.last >= since):
            path = table_folder(folder) / part.path
            found += [RowGroup(path, group, held) for group, (_, held) in enumerate(row_groups(path))]
    for paths in by_writer(live):
        begins = [None if since is None else _first(path, at) for path in paths]
        for number, path in enumerate(paths):
            after = [begin for begin in begins[number + 1 :] if begin is not None]
            if since is not None and after and min(after) < since - DISORDER:
                continue
            length = _length(path)
            found += [Chunk(path, start, min(start + size, length)) for start in range(0, length, size)]
    return tuple(found)


def lines(part: Part) -> Iterator[bytes]:
    """Whole lines, without their ends; a torn last one is left out."""
    return group_lines(part.path, part.group) if isinstance(part, RowGroup) else _range(part)


def latest(folder: Path, at: Moment) -> float | None:
    """The time of the last line of all writers; None for an empty log."""
    line = last_line(folder, at)
    return None if line is None else at(line)


def last_line(folder: Path, at: Moment) -> bytes | None:
    """The last line of all writers; None for an empty log."""
    table, live = log_files(folder)
    found = [line for paths in by_writer(live) if (line := _last(paths, at)) is not None]
    if dated := [part for part in table.parts if part.last is not None]:
        *_, line = next(_newest_first(folder, [dated[-1].path]))
        found.append(line)
    return max(found, key=at, default=None)


def moment_of_last(folder: Path, n: int, at: Moment) -> float:
    """The time from which on there are `n` lines (more where times are equal); the earliest where there are fewer."""
    table, live = log_files(folder)
    compacted = [part.path for part in table.parts if part.last is not None]
    runs = [(_segment(path) for path in reversed(paths)) for paths in by_writer(live)]
    times = []
    for run in (_newest_first(folder, compacted), *runs):
        own: list[np.ndarray] = []
        for piece in run:
            own.append(np.fromiter(_times(piece, at), float))
            if sum(map(len, own)) >= n:
                break
        times += own
    every = np.concatenate(times) if times else np.zeros(0)
    if len(every) == 0:
        return 0.0
    return float(np.partition(every, -n)[-n]) if n < len(every) else float(every.min())


def _newest_first(folder: Path, parts: Iterable[str]) -> Iterator[Iterator[bytes]]:
    """The row groups of some parts, the last one first, each as its lines."""
    for part in reversed(list(parts)):
        path = table_folder(folder) / part
        for group in reversed(range(len(row_groups(path)))):
            yield group_lines(path, group)


def _segment(path: Path) -> Iterator[bytes]:
    return lines(Chunk(path, 0, _length(path)))


def _range(chunk: Chunk) -> Iterator[bytes]:
    with opened_segment(chunk.path) as file:
        place = chunk.start
        if place:
            file.seek(place - 1)
            place += len(file.readline()) - 1  # the line that began before
        while place < chunk.end:
            line = file.readline()
            if not line.endswith(b"\n"):
                return
            place += len(line)
            if len(line) > 1:
                yield line[:-1]


def _times(piece: Iterable[bytes], at: Moment) -> Iterator[float]:
    for line in piece:
        moment = _time(line, at)
        if moment is not None:
            yield moment


def _time(line: bytes, at: Moment) -> float | None:
    try:
        return at(line)
    except ValueError:
        return None


def _first(path: Path, at: Moment) -> float | None:
    return next(_times(_segment(path), at), None)


def _last(paths: list[Path], at: Moment) -> bytes | None:
    """The last line of a writer that is one; of most segments, only the end is read."""
    for path in reversed(paths):
        length = _length(path)
        for start in (max(0, length - _TAIL), 0):
            for line in reversed(list(lines(Chunk(path, start, length)))):
                if _time(line, at) is not None:
                    return line
    return None


def _length(path: Path) -> int:
    with opened_segment(path) as file:
        return file.seek(0, 2)
