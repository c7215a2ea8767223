"""Reading a log: its compacted days and its live segments as one, as if nothing had ever been compacted."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from stores.log.segments import by_writer
from stores.log.table import group_lines, log_files, opened_segment, row_groups, table_folder

Moment = Callable[[bytes], float]
"""The time of a line. Raises ValueError for what is none."""


def read(folder: Path, at: Moment | None = None) -> Iterator[bytes]:
    """All lines, torn tails left out: first the compacted ones by time, then each writer's own in the order written.

    Where several processes wrote at once, `at` gives the time of a line, and all lines are merged by it.
    """
    table, live = log_files(folder)
    compacted = _part_lines(folder, [part.path for part in table.parts])
    if at is None:
        return chain(compacted, segment_lines(live))
    return _merged([compacted, *map(segment_lines, by_writer(live))], at)


def tail(folder: Path, n: int, at: Moment | None = None) -> list[bytes]:
    """The last `n` lines, oldest first; `at` as in `read`."""
    table, live = log_files(folder)
    parts = [part.path for part in table.parts]
    if at is None:
        last = _last_of_segments(live, n)
        return _last_of_parts(folder, parts, n - len(last)) + last
    lasts = [_last_of_parts(folder, parts, n), *(_last_of_segments(paths, n) for paths in by_writer(live))]
    return list(deque(_merged(lasts, at), maxlen=n))


def segment_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """The whole lines of some segments, one segment after another."""
    for path in paths:
        with opened_segment(path) as file:
            for line in file:
                if line.endswith(b"\n") and len(line) > 1:
                    yield line[:-1]


def _merged(runs: Iterable[Iterable[bytes]], at: Moment) -> Iterator[bytes]:
    return (line for _, line in heapq.merge(*(_dated(run, at) for run in runs), key=lambda pair: pair[0]))


def _dated(lines: Iterable[bytes], at: Moment) -> Iterator[tuple[float, bytes]]:
    """Lines with their times; one that has none stays behind the one before it."""
    moment = 0.0
    for line in lines:
        with suppress(ValueError):
            moment = at(line)
        yield moment, line


def _part_lines(folder: Path, parts: Iterable[str]) -> Iterator[bytes]:
    return chain.from_iterable(group_lines(table_folder(folder) / part) for part in parts)


def _last_of_parts(folder: Path, parts: list[str], n: int) -> list[bytes]:
    """Only the row groups at the end are read."""
    found: deque[bytes] = deque()
    for part in reversed(parts):
        path = table_folder(folder) / part
        for group in reversed(range(len(row_groups(path)))):
            if len(found) >= n:
                return list(found)
            found.extendleft(reversed(deque(group_lines(path, group), maxlen=n - len(found))))
    return list(found)


def _last_of_segments(paths: list[Path], n: int) -> list[bytes]:
    lines: deque[bytes] = deque()
    for path in reversed(paths):
        lines.extendleft(reversed(deque(segment_lines([path]), maxlen=n - len(lines))))
        if len(lines) >= n:
            break
    return list(lines)
