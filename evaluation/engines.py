"""Where work in parts runs: the port of the engines, and the one that runs on this machine.

A task is opened once in each process, and then maps parts to results: `task()(part)`. Tasks, parts and results are
picklable; what a task opens (models, files, connections) stays where it was opened. An engine promises no order of
work, only the order of results: so that a task gives the same for a part wherever and whenever it runs.
"""

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

P = TypeVar("P")
T = TypeVar("T")
Task = Callable[[], Callable[[P], T]]

PROCESSES = 2


class Engine(Protocol):
    def run(self, task: Task[P, T], parts: Sequence[P]) -> Iterator[T]:
        """The results of all parts, in their order, as soon as they are there. Raises whatever the task raises."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """Processes on this machine. With one process, or one part, it is this very process that does the work."""

    processes: int = PROCESSES

    def run(self, task: Task[P, T], parts: Sequence[P]) -> Iterator[T]:
        if self.processes < 2 or len(parts) < 2:
            opened = task() if parts else None
            for part in parts:
                yield opened(part)
            return
        # Spawned, as a fork of a process with threads (a bar that turns, a library's pool) may hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(self.processes, len(parts)), context, initializer=_take, initargs=(task,))
        try:
            yield from pool.map(_one, parts)
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, what has not begun never does


_task: list[Task[Any, Any]] = []
_opened: list[Callable[[Any], Any]] = []
"""The task of this process, and what it opened."""


def _take(task: Task[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    _task[:] = [task]


def _one(part: Any) -> Any:
    if not _opened:  # here, and not above, so that what goes wrong with it reaches the caller as it is
        _opened.append(_task[0]())
        gc.freeze()  # what a task holds stays: the collector need not look at it again and again
    return _opened[0](part)
