"""A pass over parts of a log, by whatever engine.

A pass is opened once in each worker, takes parts of the log, and gives sums that add up with `+`: memory stays bounded,
and any engine with any number of workers comes to the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scaling.engines import Engine
from scaling.local import HERE
from stores.log.chunks import Part, lines

T = TypeVar("T")
Opened = Callable[[Iterable[bytes]], T]
Progress = Callable[[int, int], object]
"""Told of megabytes read, and of all."""

SMALL = 24 * 2**20
"""Bytes up to which further processes would take longer to start than they save."""


def quietly(done: int, total: int) -> None:
    """The progress of nobody watching."""


def sweep(
    task: Callable[[], Opened[T]], chunks: Sequence[Part], *, engine: Engine = HERE, progress: Progress = quietly
) -> T:
    """All parts of a pass, added up. `task` opens it, and has to be picklable; parts come in any order.

    Raises whatever the pass raises.
    """
    if not chunks:
        return task()([])
    size = sum(chunk.size for chunk in chunks)
    total = max(1, size >> 20)
    sums, done = _Sums[T](), 0
    progress(0, total)
    worker = engine.brief() if size <= SMALL or len(chunks) < 2 else engine
    for chunk, part in zip(chunks, worker.map(_OverChunks(task), chunks), strict=True):  # in order: repeatable
        sums.add(part)
        done += chunk.size
        progress(done >> 20, total)
    return sums.total()


@dataclass(frozen=True, slots=True)
class _OverChunks(Generic[T]):
    """A pass as engines take it: its parts are chunks, which are read where it is opened."""

    task: Callable[[], Opened[T]]

    def __call__(self) -> Callable[[Part], T]:
        opened = self.task()
        return lambda chunk: opened(lines(chunk))


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
