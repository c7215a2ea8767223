"""Durations without what a busy machine adds: the time in which processes could have run, and waited for a processor.

A process that waits for an answer, a timer or a time-out is not ready to run, so that no such wait is ever left out.
"""

import os
import time
from pathlib import Path


class Watch:
    """Runs from its making; tells of this process and all that it has started, by their main threads."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), _delays()

    @property
    def seconds(self) -> float:
        """Since it was made, less what the machine took. All of it where the system doesn't tell (Linux does)."""
        held = sum(delay - self._before.get(pid, 0) for pid, delay in _delays().items())
        return time.monotonic() - self._began - held / 1e9


def _delays() -> dict[int, int]:
    """Nanoseconds that each process was ready and not running, by its id."""
    found, waiting = {}, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        place = Path(f"/proc/{pid}")
        try:
            found[pid] = int((place / "schedstat").read_text().split()[1])
            waiting += map(int, (place / f"task/{pid}/children").read_text().split())
        except OSError:  # it has ended, or the system doesn't tell
            continue
    return found
