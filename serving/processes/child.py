"""A process that the supervisor has forked, and how soon it tries again after one that died."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn, Self

import structlog

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What the supervisor listens to. Of these a child hears SIGTERM alone: Ctrl-C, say, goes to all at once."""
HANGS_AFTER = 20.0
"""Seconds without a sign of life from a worker that served. A sum of pauses: a machine that slept is no hang."""
READY_WITHIN = 60.0
"""For a worker to serve; a trial before that takes half of it at most."""
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
    silent: float = 0.0
    """Seconds without a sign of life."""

    @property
    def kind(self) -> str:
        return "scout" if self.place is None else "worker"

    def objection(self, beats: int, paused: float) -> str | None:
        """Why it may not live on: it does not leave in time, never gets to serve, or hangs.

        `beats`: its signs of life so far. `paused`: the seconds since this was last asked.
        """
        now = time.monotonic()
        if self.leaves_by is not None:
            return "it did not leave in time" if now > self.leaves_by else None
        if self.place is None:
            return None
        if not self.has_served:
            return "it never began to serve" if now > self.began + READY_WITHIN else None
        self.silent = 0.0 if beats != self.beats else self.silent + paused
        self.beats = beats
        return "it hangs" if self.silent > HANGS_AFTER else None

    def tell(self, order: Order, seconds: float) -> None:
        """Has it leave, within so many seconds."""
        self.leaves_by = time.monotonic() + seconds
        with suppress(OSError):  # it has ended already
            os.write(self.leash, order)

    def kill(self) -> None:
        self.is_killed = True
        os.kill(self.pid, signal.SIGKILL)


class Bell:
    """Pauses that a signal ends: of those that have a handler, and of a child that has ended."""

    def __init__(self) -> None:
        self._hears, self._rings = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.signal(signal.SIGCHLD, lambda sig, frame: None)
        signal.set_wakeup_fd(self._rings, warn_on_full_buffer=False)

    def pause(self, seconds: float) -> float:
        """The seconds that passed: all of them, or none where a signal came."""
        if not select.select([self._hears], [], [], seconds)[0]:
            return seconds
        with suppress(BlockingIOError):
            os.read(self._hears, 4096)
        return 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._before)
        os.close(self._hears)
        os.close(self._rings)


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
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
