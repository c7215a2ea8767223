"""A pass over parts of a log, by several processes.

A pass is opened once in each process, takes chunks of the log, and gives parts that add up with `+`: memory stays
bounded, and any number of processes come to the same.
"""

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Generic, TypeVar

from stores.log_chunks import Chunk, lines

T = TypeVar("T")
Opened = Callable[[Iterable[bytes]], T]
Progress = Callable[[int, int], object]
"""Told of megabytes read, and of all."""

PROCESSES = 2
SMALL = 24 * 2**20
"""Bytes up to which further processes would take longer to start than they save."""


def quietly(done: int, total: int) -> None:
    """The progress of nobody watching."""


def sweep(
    task: Callable[[], Opened[T]], chunks: Sequence[Chunk], *, processes: int = PROCESSES, progress: Progress = quietly
) -> T:
    """All parts of a pass, added up. `task` opens it, and has to be picklable; parts come in any order.

    Raises whatever the pass raises.
    """
    size = sum(chunk.size for chunk in chunks)
    total = max(1, size >> 20)
    sums, done = _Sums[T](), 0
    progress(0, total)
    if processes < 2 or size <= SMALL or len(chunks) < 2:
        opened = task()
        for chunk in chunks:
            sums.add(opened(lines(chunk)))
            done += chunk.size
            progress(done >> 20, total)
        return sums.total() if chunks else opened([])
    # Spawned, as a fork of a process with threads (a bar that turns, a library's pool) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_open, initargs=(task,)) as pool:
        for chunk, part in zip(chunks, pool.map(_one, chunks), strict=True):  # in order: repeatable
            sums.add(part)
            done += chunk.size
            progress(done >> 20, total)
    return sums.total()


_opened: list[Any] = []
"""The pass of this process."""


def _open(task: Callable[[], Opened[Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    _opened[:] = [task()]
    gc.freeze()  # what a pass holds stays: the collector need not look at it again and again


def _one(chunk: Chunk) -> Any:
    return _opened[0](lines(chunk))


class _Sums(Generic[T]):
    """Adds parts up as a balanced tree, so that each is copied a logarithm of times and not once for each other."""

    def __init__(self) -> None:
        self._levels: list[T | None] = []

    def add(self, part: T) -> None:
        for level, held in enumerate(self._levels):
            if held is None:
                self._levels[level] = part
                return
            part, self._levels[level] = held + part, None
        self._levels.append(part)

    def total(self) -> T:
        """Raises IndexError where nothing was added."""
        held = [part for part in self._levels if part is not None]
        found = held[0]
        for part in held[1:]:
            found = found + part
        return found
