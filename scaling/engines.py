"""One port for work that comes in parts: a task is opened once in each worker, and takes parts one by one.

Parts are small descriptions (a range of a file, a fold), so that what is big is read where it is needed. What a task
makes of a part may not hang on the other parts, nor on who took it: then any engine, with any number of workers, comes
to the same, and a part may be done again where a worker was lost.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from decisioning.errors import UserError
from scaling.local import PROCESSES, Local

P = TypeVar("P")
T = TypeVar("T")
Task = Callable[[], Callable[[P], T]]
"""Opens the work in a worker. Picklable, and defined in a module that workers can import."""

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


class Engine(Protocol):
    """Does parts of work. The twins are `Local` and `on_ray.OnRay`; one contract suite holds them to this."""

    @property
    def workers(self) -> int: ...

    def map(self, task: Task[P, T], parts: Iterable[P]) -> Iterator[T]:
        """What the task makes of each part, in the order of the parts, a bounded number of them ahead.

        Raises what the task raises, and UserError where a worker is lost for good; nobody works on then.
        """
        ...

    def brief(self) -> "Engine":
        """The engine for work that would be over before further processes have started."""
        ...


@contextmanager
def engine_of(name: str = LOCAL, workers: int | None = None) -> Iterator[Engine]:
    """The engine of that name while it is needed: Ray is started here, unless it runs already, and shut down after.

    `workers` is how many there are; without it 2, or as many as a Ray cluster has CPUs. Raises UserError for a name
    that is none, a number that can't be, and where Ray is not installed or can't be reached.
    """
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}: choose {' or '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers can't do anything: give 1 or more.")
    if name == LOCAL:
        yield Local(workers or PROCESSES)
        return
    from scaling.ray_session import session

    with session(workers) as running:
        from scaling.on_ray import OnRay

        yield OnRay(running)
