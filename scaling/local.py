"""Work in parts by processes of this machine."""

import atexit
import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from decisioning.errors import UserError
from scaling.engines import Task, Together
from scaling.search import Progress, Search, Trials

PROCESSES = 2
AHEAD = 3
"""Parts per process that are begun before their turn."""


@dataclass(frozen=True, slots=True)
class Local:
    """Processes that are spawned for each `map`; one alone is this very process."""

    workers: int = PROCESSES

    def map(self, task: Task[Any, Any], parts: Iterable[Any]) -> Iterator[Any]:
        """As `engines.Engine`."""
        if self.workers < 2:
            opened = task()
            return (opened(part) for part in parts)
        return self._spread(task, iter(parts))

    @property
    def ranks(self) -> int:
        return 1

    def together(self, work: Together[Any, Any], shards: Sequence[Any]) -> list[Any]:
        """As `engines.Engine`: the one rank is this process."""
        (shard,) = shards
        return [made for _, made in work(shard, {})]

    def search(self, task: Task[Any, float], asked: Search, progress: Progress = lambda done, total: None) -> Trials:
        """As `engines.Engine`, in this process."""
        from scaling.optuna_search import search

        return search(task, asked, progress)

    def brief(self) -> "Local":
        return ALONE

    def _spread(self, task: Task[Any, Any], parts: Iterator[Any]) -> Iterator[Any]:
        # Spawned, as a fork of a process with threads (a bar that turns, a library's pool) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, initializer=_prepare, initargs=(task,)) as pool:
            first = list(islice(parts, AHEAD * self.workers))
            with _unheard():  # a pool starts its processes with the first parts
                begun: deque[Future[Any]] = deque(pool.submit(_one, part) for part in first)
            try:
                while begun:
                    found = begun.popleft().result()
                    begun.extend(pool.submit(_one, part) for part in islice(parts, 1))
                    yield found
            except BrokenProcessPool:
                raise UserError(
                    "A process that worked on a part was ended from outside, most often because memory ran out: "
                    "try fewer --workers."
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)  # what has begun ends; nothing is left running


HERE = Local()
"""Who does work in parts where nobody says otherwise."""
ALONE = Local(1)
"""This very process."""

_task: list[Task[Any, Any]] = []
_opened: list[Callable[[Any], Any]] = []
"""The work of this process, and how to open it."""


@contextmanager
def _unheard() -> Iterator[None]:
    """What is started within never hears Ctrl-C, not even while it still imports. One that comes now is heard after."""
    resource_tracker.ensure_running()  # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(task: Task[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _task[:] = [task]


def _end_with_the_parent() -> None:
    """Where the parent is killed, nobody wants the work, and whoever begins it again must not find it going on."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _one(part: Any) -> Any:
    """Opened with the first part and not before: what opening raises is then told as what it is."""
    if not _opened:
        _opened.append(_task[0]())
        gc.freeze()  # what the work holds stays: the collector need not look at it again and again
        atexit.register(gc.unfreeze)  # until the process ends: then libraries want to see it go
    return _opened[0](part)
