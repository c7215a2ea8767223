"""Append-only logs of lines, in segments: what was decided, and what followed.

`append` is one `write()`: a killed process loses nothing that it acknowledged. A thread in the background makes
segments durable (fsync) and seals them. A full disk or a vanished folder never reaches the caller: lines are counted
as dropped until writing works again. Each process writes its own segments, under a lock that dies with it.

    <start>-<writer>-<number>.open.jsonl    being written, by the process that holds a lock on it
    <start>-<writer>-<number>.jsonl         sealed: complete, durable, and never changed again
"""

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Protocol

OPEN = ".open.jsonl"
SEALED = ".jsonl"
SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 300.0
SYNC_SECONDS = 0.2
RETRY_SECONDS = 1.0


class Log(Protocol):
    dropped: int
    """Lines lost so far, because they could not be written."""

    def append(self, line: bytes) -> None:
        """Add a line, given without its end and holding no newline. Never raises for what is wrong with the disk."""
        ...

    def close(self) -> None: ...


class MemoryLog:
    """The twin for tests and trials."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped = 0

    def append(self, line: bytes) -> None:
        self.lines.append(line)

    def close(self) -> None:
        pass


class EventLog:
    """A log in a folder. Safe to use from several threads; each process makes its own, after any fork."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
        sync_seconds: float = SYNC_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ):
        self.dropped = 0
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._retry_seconds = retry_seconds
        self._writer = f"{os.getpid()}.{secrets.token_hex(4)}"
        self._number = 0
        self._segment: _Segment | None = None
        self._full: list[_Segment] = []
        self._retry_at = 0.0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        with suppress(OSError):
            recover(folder)
        self._reopen()
        self._thread = threading.Thread(target=self._tend, args=(sync_seconds,), name="event-log", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        with self._lock:
            segment = self._segment or self._reopen()
            if segment is None:
                self.dropped += 1
                return
            try:
                segment.write(line + b"\n")
            except OSError:
                self.dropped += 1
                self._give_up(segment)
                return
            if segment.size >= self._segment_bytes:
                self._full.append(segment)
                self._segment = None

    def close(self) -> None:
        """Seal what is open. Lines that come later start a new segment, which the next start will seal."""
        self._closing.set()
        self._thread.join()

    def _reopen(self) -> "_Segment | None":
        """A new segment; None, and no new attempt for a while, where there can't be one."""
        if time.monotonic() < self._retry_at:
            return None
        self._number += 1
        name = f"{time.time_ns() // 1_000_000:013d}-{self._writer}-{self._number:06d}{OPEN}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._segment = _Segment(self._folder / name)
        except OSError:
            self._retry_at = time.monotonic() + self._retry_seconds
        return self._segment

    def _give_up(self, segment: "_Segment") -> None:
        self._full.append(segment)
        self._segment = None
        self._retry_at = time.monotonic() + self._retry_seconds

    def _tend(self, every: float) -> None:
        last = False
        while not last:
            last = self._closing.wait(every)
            with self._lock:
                segment = self._segment
                if segment and (last or (segment.size and segment.age >= self._segment_seconds)):
                    self._full.append(segment)
                    self._segment = segment = None
                elif segment and segment.vanished:
                    # What was written since is gone with the file: say so, and begin anew.
                    self.dropped += segment.lines
                    segment.close()
                    self._segment = segment = None
                full, self._full = self._full, []
            for one in full:
                one.seal()
            if segment:
                segment.sync()


class _Segment:
    """One file. `write` holds whole lines only: what a full disk cut short is taken back."""

    def __init__(self, path: Path):
        self._path = path
        self._file = _locked(path)
        if self.vanished:  # another process, recovering, took it for an orphan before it was locked
            os.close(self._file)
            self._file = _locked(path)
        self._started = time.monotonic()
        self._synced = 0
        self.size = 0
        self.lines = 0

    @property
    def age(self) -> float:
        return time.monotonic() - self._started

    @property
    def vanished(self) -> bool:
        return os.fstat(self._file).st_nlink == 0

    def write(self, line: bytes) -> None:
        written = os.write(self._file, line)
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += written
        self.lines += 1

    def sync(self) -> None:
        if self.size > self._synced:
            size = self.size
            with suppress(OSError):
                os.fsync(self._file)
                self._synced = size

    def seal(self) -> None:
        self.sync()
        with suppress(OSError):
            if self.size:
                self._path.rename(_sealed(self._path))
            else:
                self._path.unlink()
        self.close()

    def close(self) -> None:
        os.close(self._file)


def _locked(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def recover(folder: Path) -> None:
    """Seal the segments whose process is gone, cutting a torn last line."""
    for path in sorted(folder.glob(f"*{OPEN}")):
        # It may be locked by its living process, or just now be sealed by another one that recovers.
        with suppress(BlockingIOError, FileNotFoundError), path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            os.fsync(file.fileno())
            if whole:
                path.rename(_sealed(path))
            else:
                path.unlink()


def segments(folder: Path) -> list[Path]:
    """The files of a log, in the order of their start, which their names begin with."""
    return sorted(folder.glob(f"*{SEALED}"))


def sealed_segments(folder: Path) -> list[Path]:
    """Those that are complete, in the order of their start."""
    return [path for path in segments(folder) if not path.name.endswith(OPEN)]


def by_writer(paths: Iterable[Path]) -> list[list[Path]]:
    """The files of each writer, in the order written."""

    def writer_and_number(path: Path) -> list[str]:
        return path.name.split("-")[1:]

    grouped = groupby(sorted(paths, key=writer_and_number), key=lambda path: writer_and_number(path)[0])
    return [list(group) for _, group in grouped]


def opened(path: Path) -> BinaryIO:
    """A segment, under whichever of its two names it has by now."""
    try:
        return path.open("rb")
    except FileNotFoundError:  # sealed since its name was listed
        return _sealed(path).open("rb")


def _sealed(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(OPEN) + SEALED)
