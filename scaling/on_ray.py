"""Work in parts by actors on Ray: each opens the task once, and whoever is free takes the next part."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from decisioning.errors import UserError
from scaling.engines import Task, Together
from scaling.ray_session import Session
from scaling.search import Progress, Search, Trials

AHEAD = 3
"""Parts per worker that are begun before their turn."""
AGAIN = 1
"""How many times a worker that was lost is replaced, and its part done again: nodes of a cluster come and go."""


@dataclass(frozen=True, slots=True)
class OnRay:
    """Actors on a Ray that runs, started for each `map` and ended after it."""

    session: Session

    @property
    def workers(self) -> int:
        return self.session.workers

    def map(self, task: Task[Any, Any], parts: Iterable[Any]) -> Iterator[Any]:
        """As `engines.Engine`."""
        held = ray.put(task)  # once, however many workers read it; arrays in it are shared, and not copied
        crew = [_Worker.options(max_restarts=AGAIN, max_task_retries=AGAIN).remote() for _ in range(self.workers)]
        shift = _Shift([held], list(crew), iter(parts))
        try:
            yield from shift.results()
        finally:
            for worker in crew:
                ray.kill(worker)

    @property
    def ranks(self) -> int:
        return self.session.workers

    def together(self, work: Together[Any, Any], shards: Sequence[Any]) -> list[Any]:
        """As `engines.Engine`."""
        from scaling.ray_gang import together

        return together(work, shards)

    def search(self, task: Task[Any, float], asked: Search, progress: Progress = lambda done, total: None) -> Trials:
        """As `engines.Engine`."""
        from scaling.ray_search import search

        return search(task, asked, self.workers, progress)

    def brief(self) -> "OnRay":
        """Itself: whoever asks for Ray gets Ray."""
        return self


@ray.remote(num_cpus=1)
class _Worker:
    def __init__(self) -> None:
        self._opened: Callable[[Any], Any] | None = None

    def one(self, task: list[ray.ObjectRef], part: Any) -> Any:
        """Opened with the first part and not before: what opening raises is then told as what it is.

        The task comes in a list, so that Ray doesn't fetch it for each part anew.
        """
        if self._opened is None:
            self._opened = ray.get(task[0])()
            gc.freeze()
        return self._opened(part)


@dataclass
class _Shift:
    """Who works on what: parts are begun at most so far ahead, and given back in order."""

    task: list[ray.ObjectRef]
    free: list[ActorHandle]
    parts: Iterator[Any]
    busy: dict[ray.ObjectRef, tuple[int, ActorHandle]] = field(default_factory=dict)
    done: dict[int, ray.ObjectRef] = field(default_factory=dict)
    begun: int = 0

    def results(self) -> Iterator[Any]:
        most, turn = AHEAD * len(self.free), 0
        self._begin(most)
        while self.busy or self.done:
            while turn not in self.done:
                self._await_one()
                self._begin(turn + most)
            found = _got(self.done.pop(turn))
            turn += 1
            self._begin(turn + most)
            yield found

    def _begin(self, until: int) -> None:
        while self.free and self.begun < until:
            try:
                part = next(self.parts)
            except StopIteration:
                return
            worker = self.free.pop()
            self.busy[worker.one.remote(self.task, part)] = self.begun, worker
            self.begun += 1

    def _await_one(self) -> None:
        (ready, *_), _ = ray.wait(list(self.busy), num_returns=1)
        place, worker = self.busy.pop(ready)
        self.done[place] = ready
        self.free.append(worker)


def _got(result: ray.ObjectRef) -> Any:
    try:
        return ray.get(result)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    except RayError:
        raise UserError(
            "A Ray worker was lost, and lost again when its part was done anew, most often because memory ran out: "
            "try fewer --workers, or nodes with more memory."
        ) from None
