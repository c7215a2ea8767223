"""Work in a child process, where a crash, a hang or a flood of memory harms nobody."""

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from decisioning.errors import UserError

SECONDS = 30.0
MEMORY = 2 * 2**30
"""Bytes that the work may take beyond what its parent has."""
DONE = b"done"
MOST_WORDS = 2000


class Abandoned(BaseException):
    """Nobody waits for the work any more. That is no fault of the work, so no handler of its faults may catch it."""


def refusal(
    work: Callable[[], object], *, seconds: float = SECONDS, memory: int = MEMORY, leash: int | None = None
) -> str | None:
    """Does the work in a fork of this process, which must have one thread alone. None: it came to its end.

    Else why not, in words: what it raised, or the signal that ended it, or that it took too long or too much memory.
    Ends it and raises Abandoned as soon as the pipe `leash` has something to read, or its other end is closed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _do(work, writing, seconds, memory)
    os.close(writing)
    try:
        told = _told(reading, time.monotonic() + seconds, leash)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it has ended, or must
        _, status = os.waitpid(child, 0)
    if told is None:
        return f"its trial took longer than {seconds:g} seconds"
    if told:
        return None if told == DONE else told.decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        return f"its trial was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return "its trial ended without a word"


def _told(reading: int, until: float, leash: int | None) -> bytes | None:
    """All that the child wrote until it ended; None where it did not end in time."""
    told = b""
    ends = [reading] if leash is None else [reading, leash]
    while (left := until - time.monotonic()) > 0:
        ready = select.select(ends, [], [], left)[0]
        if leash in ready:
            raise Abandoned
        if not ready:
            continue
        part = os.read(reading, 65_536)
        if not part:
            return told
        told += part
    return None


def _do(work: Callable[[], object], writing: int, seconds: float, memory: int) -> NoReturn:
    try:
        _confine(seconds, memory)
        work()
        said = DONE
    except MemoryError:
        said = b"its trial took more than %d MB of memory" % (memory >> 20)
    except UserError as error:
        said = str(error).encode("utf-8", "replace")[:MOST_WORDS]
    except BaseException as error:  # noqa: BLE001  whatever it is, it stays in here
        said = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:MOST_WORDS]
    try:
        os.write(writing, said)
    finally:
        os._exit(0)


def _confine(seconds: float, memory: int) -> None:
    """Limits that hold even when the parent is gone, and no word on the parent's log."""
    signal.set_wakeup_fd(-1)
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(one, signal.SIG_DFL)
    signal.alarm(int(seconds) + 5)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (mapped := _mapped()) is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = mapped + memory
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _mapped() -> int | None:
    """Bytes of address space that this process has; None where the system doesn't tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None
