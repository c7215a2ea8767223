"""Append-only logs of lines, in segments: what was decided, and what followed.

`append` and `extend` are one `write()` each: a killed process loses nothing that it acknowledged. A thread in the
background makes segments durable (fsync) and seals them. A full disk or a vanished folder never reaches the caller:
lines are counted as dropped until writing works again. Each process writes its own segments, under a lock that dies
with it.

What was dropped is put on record in the file `dropped`, a line of JSON each time. See `segments` for the others.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from stores.log.segments import OPEN, SEAL, Segment, changed, recover

SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 300.0
SYNC_SECONDS = 0.2
RETRY_SECONDS = 1.0
DROPPED = "dropped"
Alert = Callable[[int, bool], object]
"""Told how many lines were dropped so far, and whether lines are being dropped still; at most once a minute."""
ALERT_SECONDS = 60.0


class Log(Protocol):
    dropped: int
    """Lines lost so far, because they could not be written."""

    def append(self, line: bytes) -> None:
        """Add a line, given without its end and holding no newline. Never raises for what is wrong with the disk."""
        ...

    def extend(self, lines: Sequence[bytes]) -> None:
        """Add several lines at once: all of them, or none."""
        ...

    def close(self) -> None: ...


class MemoryLog:
    """The twin for tests and trials."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped = 0

    def append(self, line: bytes) -> None:
        self.lines.append(line)

    def extend(self, lines: Sequence[bytes]) -> None:
        self.lines.extend(lines)

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
        alert: Alert = lambda dropped, still: None,
    ):
        self.dropped = 0
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._retry_seconds = retry_seconds
        self._writer = f"{os.getpid()}.{secrets.token_hex(4)}"
        self._number = 0
        self._segment: Segment | None = None
        self._full: list[Segment] = []
        self._retry_at = 0.0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._drops = _Drops(folder / DROPPED, self._writer, alert)
        self._seal = folder / SEAL
        self._seal_seen = changed(self._seal)
        with suppress(OSError):
            recover(folder)
        self._reopen()
        self._thread = threading.Thread(target=self._tend, args=(sync_seconds,), name="event-log", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        self.extend((line,))

    def extend(self, lines: Sequence[bytes]) -> None:
        whole = b"\n".join((*lines, b""))
        with self._lock:
            segment = self._segment or self._reopen()
            if segment is None:
                self.dropped += len(lines)
                return
            try:
                segment.write(whole, len(lines))
            except OSError:
                self.dropped += len(lines)
                self._give_up(segment)
                return
            if segment.size >= self._segment_bytes:
                self._full.append(segment)
                self._segment = None

    def close(self) -> None:
        """Seal what is open. Lines that come later start a new segment, which the next start will seal."""
        self._closing.set()
        self._thread.join()

    def _reopen(self) -> "Segment | None":
        """A new segment; None, and no new attempt for a while, where there can't be one."""
        if time.monotonic() < self._retry_at:
            return None
        self._number += 1
        name = f"{time.time_ns() // 1_000_000:013d}-{self._writer}-{self._number:06d}{OPEN}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._segment = Segment(self._folder / name)
        except OSError:
            self._retry_at = time.monotonic() + self._retry_seconds
        return self._segment

    def _give_up(self, segment: "Segment") -> None:
        self._full.append(segment)
        self._segment = None
        self._retry_at = time.monotonic() + self._retry_seconds

    def _is_old(self, segment: "Segment") -> bool:
        return segment.age >= self._segment_seconds

    def _tend(self, every: float) -> None:
        last = False
        while not last:
            last = self._closing.wait(every)
            before, self._seal_seen = self._seal_seen, changed(self._seal)
            asked = before != self._seal_seen
            with self._lock:
                segment = self._segment
                if segment and (last or segment.vanished or (segment.size and (asked or self._is_old(segment)))):
                    self._full.append(segment)
                    self._segment = segment = None
                full, self._full = self._full, []
                # What was written to a file that somebody removed is gone with it.
                self.dropped += sum(one.lines for one in full if one.vanished)
            for one in full:
                one.seal()
            if segment:
                segment.sync()
            self._drops.watch(self.dropped, last=last)


class _Drops:
    """Says when lines are dropped, and keeps on record how many, once there is room for that."""

    def __init__(self, file: Path, writer: str, alert: Alert) -> None:
        self._file, self._writer, self._alert = file, writer, alert
        self._seen = self._recorded = 0
        self._since = 0.0
        self._alert_at = 0.0

    def watch(self, dropped: int, *, last: bool) -> None:
        """Looks at the count, every now and then; `last` before the end."""
        still, self._seen = dropped > self._seen, dropped
        if dropped == self._recorded:
            return
        self._since = self._since or time.time()
        if still and time.monotonic() >= self._alert_at:
            self._alert_at = time.monotonic() + ALERT_SECONDS
            self._tell(dropped, True)
        if not still or last:
            self._record(dropped)

    def _record(self, dropped: int) -> None:
        told = {"writer": self._writer, "since": self._since, "until": time.time(), "lines": dropped - self._recorded}
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                file.write(json.dumps(told) + "\n")
            self._recorded, self._since = dropped, 0.0
            self._alert_at = 0.0
            self._tell(dropped, False)

    def _tell(self, dropped: int, still: bool) -> None:
        """Where nobody can be told (what is said may go to a file on the same full disk), the log goes on."""
        with suppress(Exception):
            self._alert(dropped, still)
