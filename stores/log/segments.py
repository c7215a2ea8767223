"""The segments of a log on disk: files of whole lines, one being written per writer, the others sealed.

<start>-<writer>-<number>.open.jsonl    being written, by the process that holds a lock on it
<start>-<writer>-<number>.jsonl         sealed: complete, durable, and not written to again
.<segment>.<process>                    lines of a batch's part that is not done yet: nobody reads them
seal                                    touched by whoever wants all writers to seal what they have
"""

import fcntl
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

OPEN = ".open.jsonl"
SEALED = ".jsonl"
SEAL = "seal"


class Segment:
    """One file. `write` holds whole lines only: what a full disk cut short is taken back."""

    def __init__(self, path: Path):
        self._path = path
        self._file = _locked(path)
        while self.vanished:  # another process, recovering, took it for an orphan before it was locked
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

    def write(self, whole: bytes, lines: int) -> None:
        """So many lines, each with its end. Raises OSError, and has written none of them, where there is no room."""
        written = os.write(self._file, whole)
        try:
            while written < len(whole):
                written += os.write(self._file, whole[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += written
        self.lines += lines

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


def seal(folder: Path, seconds: float) -> list[Path]:
    """Asks the writers to seal what they have, and waits for it; returns the segments that were not sealed in time."""
    recover(folder)
    waiting = [path for path in folder.glob(f"*{OPEN}") if _size(path)]
    if waiting:
        (folder / SEAL).touch()
    deadline = time.monotonic() + seconds
    while (waiting := [path for path in waiting if path.exists()]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return waiting


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # sealed meanwhile
        return 0


def changed(file: Path) -> int:
    """When a file was changed last; 0 for one that is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _sealed(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(OPEN) + SEALED)
