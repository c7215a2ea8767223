"""Logs in parts: byte ranges of segments that processes can share out, from a moment on, a bounded piece at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stores.event_log import opened, segments_by_writer

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


def chunks(
    folder: Path, since: float | None, at: Callable[[bytes], float], size: int = CHUNK_BYTES
) -> tuple[Chunk, ...]:
    """The log in chunks of about `size` bytes, without the segments that end before `since`.

    `at` gives the time of a line, and raises ValueError for what is none. A writer's segment has ended where its next
    one begins. Lines before `since` may still be among the first ones.
    """
    found = []
    for paths in segments_by_writer(folder):
        begins = [None if since is None else _first(path, at) for path in paths]
        for number, path in enumerate(paths):
            after = [begin for begin in begins[number + 1 :] if begin is not None]
            if since is not None and after and min(after) < since - DISORDER:
                continue
            length = _length(path)
            found += [Chunk(path, start, min(start + size, length)) for start in range(0, length, size)]
    return tuple(found)


def lines(chunk: Chunk) -> Iterator[bytes]:
    """Whole lines, without their ends; a torn last one is left out."""
    with opened(chunk.path) as file:
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


def latest(folder: Path, at: Callable[[bytes], float]) -> float | None:
    """The time of the last line of all writers; None for an empty log."""
    line = last_line(folder, at)
    return None if line is None else at(line)


def last_line(folder: Path, at: Callable[[bytes], float]) -> bytes | None:
    """The last line of all writers; None for an empty log."""
    found = [line for paths in segments_by_writer(folder) if (line := _last(paths, at)) is not None]
    return max(found, key=at, default=None)


def moment_of_last(folder: Path, n: int, at: Callable[[bytes], float]) -> float:
    """The time from which on there are `n` lines (more where times are equal); the earliest where there are fewer."""
    times = []
    for paths in segments_by_writer(folder):
        own: list[np.ndarray] = []
        for path in reversed(paths):
            own.append(np.fromiter(_times(path, at), float))
            if sum(map(len, own)) >= n:
                break
        times += own
    every = np.concatenate(times) if times else np.zeros(0)
    if len(every) == 0:
        return 0.0
    return float(np.partition(every, -n)[-n]) if n < len(every) else float(every.min())


def _times(path: Path, at: Callable[[bytes], float]) -> Iterator[float]:
    for line in lines(Chunk(path, 0, _length(path))):
        moment = _time(line, at)
        if moment is not None:
            yield moment


def _time(line: bytes, at: Callable[[bytes], float]) -> float | None:
    try:
        return at(line)
    except ValueError:
        return None


def _first(path: Path, at: Callable[[bytes], float]) -> float | None:
    return next(_times(path, at), None)


def _last(paths: list[Path], at: Callable[[bytes], float]) -> bytes | None:
    """The last line of a writer that is one; of most segments, only the end is read."""
    for path in reversed(paths):
        length = _length(path)
        for start in (max(0, length - _TAIL), 0):
            for line in reversed(list(lines(Chunk(path, start, length)))):
                if _time(line, at) is not None:
                    return line
    return None


def _length(path: Path) -> int:
    with opened(path) as file:
        return file.seek(0, 2)
