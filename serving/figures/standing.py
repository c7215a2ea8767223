"""How things stand in one process, for its metrics: what others count for themselves is looked up before each flush."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.figures.metrics import Count
from serving.guarded.circuit import State

if TYPE_CHECKING:
    from serving.runtime import Runtime


class Standing:
    """Called, it brings the runtime's metrics up to date with everything that the runtime holds."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._seen: dict[tuple[str, Any], int] = {}

    def __call__(self) -> None:
        runtime, metrics, store = self._runtime, self._runtime.metrics, self._runtime.store
        for state in State:
            metrics.breaker[str(state)] = float(store.state is state)
        metrics.backlog[()] = store.waiting
        self._add(metrics.store_reads, store.outcomes)
        self._add(metrics.breaker_changes, store.entered)
        self._add(metrics.store_missed, {"": store.missed})
        metrics.log_queue["decisions"] = runtime.journal.waiting
        self._add(metrics.log_dropped, {"decisions": runtime.decisions.dropped, "events": runtime.events.dropped})
        self._add(metrics.requests, runtime.pressure.refused)
        self._add(metrics.rungs, {"refused": runtime.pressure.too_late})
        self._add(metrics.limited, runtime.access.limited)
        metrics.keys_unreadable[()] = float(runtime.access.problem is not None)

    def _add(self, count: Count, totals: Mapping[Any, int]) -> None:
        """Adds what each total has grown by since the last time."""
        for label, total in totals.items():
            more = total - self._seen.get((count.name, label), 0)
            if more:
                self._seen[count.name, label] = total
                count[label if isinstance(label, tuple) else str(label) if count.labels else ()] += more
