"""One port for work that comes in parts: a task is opened once in each worker, and takes parts one by one.

Parts are small descriptions (a range of a file, a fold), so that what is big is read where it is needed. What a task
makes of a part may not hang on the other parts, nor on who took it: then any engine, with any number of workers, comes
to the same, and a part may be done again where a worker was lost.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from decisioning.errors import UserError
from scaling.search import Progress, Search, Trials, Value

P = TypeVar("P")
T = TypeVar("T")
Task = Callable[[], Callable[[P], T]]
"""Opens work in a worker. Picklable, and defined in a module that workers can import."""
Together = Callable[[P, Mapping[str, Any]], Iterable[tuple[str, T]]]
"""Work on a shard, given LightGBM's words for the network of ranks; each thing made comes with its digest."""

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


class Disagreement(RuntimeError):
    """Ranks that should have made the same thing together made different ones."""


class Engine(Protocol):
    """Does parts of work. The twins are `Local` and `on_ray.OnRay`; one contract suite holds them to this."""

    @property
    def workers(self) -> int: ...

    def map(self, task: Task[P, T], parts: Iterable[P]) -> Iterator[T]:
        """What the task makes of each part, in the order of the parts, a bounded number of them ahead.

        Raises what the task raises, and UserError where a worker is lost for good; nobody works on then.
        """
        ...

    @property
    def ranks(self) -> int:
        """How many can make one thing together; 1: nobody but this process."""
        ...

    def together(self, work: Together[P, T], shards: Sequence[P]) -> list[T]:
        """What ranks make together that each hold one of the shards, `ranks` of them.

        Every rank goes through the whole work in step with the others. Raises `Disagreement` where two of them come to
        different things, and what the work raises. On one rank there is no network to speak to the others by: {}.
        """
        ...

    def search(
        self, task: Task[Mapping[str, Value], float], asked: Search, progress: Progress = lambda done, total: None
    ) -> Trials:
        """Tries parameters for the least loss, which the task gives of each.

        Parameters that the task refuses with a UserError count as a trial without a loss. On Ctrl-C, and when time is
        up, what has ended is given. Raises UserError where Optuna is not installed.
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
        from scaling.local import PROCESSES, Local

        yield Local(workers or PROCESSES)
        return
    from scaling.ray_session import session

    with session(workers) as running:
        from scaling.on_ray import OnRay

        yield OnRay(running)
