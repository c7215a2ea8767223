"""A process that the supervisor has forked, and how soon it tries again after one that died."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

import structlog

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What the supervisor listens to. Of these a child hears SIGTERM alone: Ctrl-C, say, goes to all at once."""
STABLE_SECONDS = 5.0
"""A child that lived so long did not die of its start."""
LONGEST_PAUSE = 5.0
"""Before another start, where children die young: 0.1 s after the first, then twice as long each time."""


log = structlog.get_logger()


class Order(bytes, Enum):
    """What the supervisor tells a worker through its pipe."""

    DRAIN = b"d"
    RETIRE = b"r"
    LEAVE = b"l"


@dataclass(slots=True, eq=False)
class Child:
    """A worker, with its place on the board; or the scout, without one."""

    pid: int
    place: int | None
    leash: int
    """Our end of its pipe."""
    began: float
    has_served: bool = False
    leaves_by: float | None = None
    """When it is killed; None for one that is to stay."""
    is_killed: bool = False
    beats: int = 0
    looks: int = 0
    """How often in a row it was looked at without a sign of life."""

    @property
    def kind(self) -> str:
        return "scout" if self.place is None else "worker"

    def look(self, beats: int) -> int:
        """Takes notice of its signs of life; gives for how many looks there was none."""
        self.looks = 0 if beats != self.beats else self.looks + 1
        self.beats = beats
        return self.looks

    def tell(self, order: Order, seconds: float) -> None:
        """Has it leave, within so many seconds."""
        self.leaves_by = time.monotonic() + seconds
        with suppress(OSError):  # it has ended already
            os.write(self.leash, order)

    def kill(self) -> None:
        self.is_killed = True
        os.kill(self.pid, signal.SIGKILL)


def fork(place: int | None, others: Sequence[Child], live: Callable[[int | None, int], None]) -> Child:
    """A new child, whose whole life is `live(place, leash)`. Raises OSError where there is no room for one."""
    reading, writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the child has handlers of its own
    try:
        pid = os.fork()
        if pid == 0:
            _be_born(place, reading, (writing, *(other.leash for other in others)), live)
        return Child(pid, place, writing, time.monotonic())
    except OSError:
        os.close(writing)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(reading)


def _be_born(place: int | None, leash: int, ends: Iterable[int], live: Callable[[int | None, int], None]) -> NoReturn:
    """Drops what is the supervisor's, and lives. Nothing of the supervisor's may run after that."""
    try:
        for one in HANDLED:
            signal.signal(one, signal.SIG_DFL if one == signal.SIGTERM else signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        for end in ends:  # else nobody would see that the supervisor is gone
            os.close(end)
        live(place, leash)
    except BaseException:
        log.exception("child_failed")
    finally:
        sys.stderr.flush()
        os._exit(1)


class Luck:
    """Counts the children that died young, and lets the next one wait the longer."""

    def __init__(self) -> None:
        self.stillborn = 0
        """In a row, before they served."""
        self._young = 0
        self._not_before = 0.0

    @property
    def may_start(self) -> bool:
        return time.monotonic() >= self._not_before

    def served(self) -> None:
        self.stillborn = 0

    def died(self, child: Child) -> None:
        self.stillborn += not child.has_served
        is_young = time.monotonic() - child.began < STABLE_SECONDS
        self._young = self._young + 1 if is_young else 0
        self.wait(min(0.1 * 2 ** (self._young - 1), LONGEST_PAUSE) if is_young else 0.0)

    def wait(self, seconds: float = LONGEST_PAUSE) -> None:
        self._not_before = time.monotonic() + seconds


def how(status: int) -> str:
    """How a process ended, in words."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"
