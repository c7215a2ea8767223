"""What was counted, for Prometheus: `GET /metrics` shows all workers of a server, whichever of them answers.

Each worker keeps its figures in files of its own (prometheus-client's multiprocess mode), in a folder that all share.
"""

import os
import shutil
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
    values,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from serving.figures.metrics import Count, Level, Metrics, Spread
from serving.processes.board import Board

FLUSH_EVERY = 0.2
"""Seconds."""
PAGE_TYPE = CONTENT_TYPE_LATEST
MOST_SERIES = 100
"""Of one metric, by labels; what comes later is told as `other`. Bounds the files, too."""
OTHER = "other"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
FILES = {"counter": 2**20, "histogram": 2**20, "gauge_livesum": 2**16, "gauge_livemax": 2**16}
"""The files of a worker by kind, and more bytes than `MOST_SERIES` can fill."""

log = structlog.get_logger()
disable_created_metrics()  # twice the series, and the multiprocess mode has none


@contextmanager
def shared_folder() -> Iterator[Path | None]:
    """A fresh folder for the files of all workers, gone at the end; None, and an alert, where there can't be one.

    In memory where the system has such a folder: a full disk must not concern it.
    """
    made = None
    for parent in ("/dev/shm", tempfile.gettempdir()):
        with suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="segue-metrics-", dir=parent))
            break
    if made is None:
        log.error("metrics_apart", why="no folder in memory or for temporary files: /metrics tells of one worker alone")
    try:
        yield made
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


class BulkHistogram(Histogram):
    """Takes many values at once: the library's own `observe` takes a lock and two writes for each."""

    def observe_all(self, found: Sequence[float]) -> None:
        times = np.bincount(np.searchsorted(self._upper_bounds, found), minlength=len(self._buckets))
        for bucket, more in zip(self._buckets, times.tolist(), strict=True):
            if more:
                bucket.inc(more)
        self._sum.inc(sum(found))


M = TypeVar("M", bound=MetricWrapperBase)


class Family(Generic[M]):
    """A metric of the client library and its series, by the labels that are used here."""

    def __init__(self, metric: M, labels: Sequence[str]) -> None:
        self._metric, self._labels = metric, labels
        self._series: dict[Hashable, M] = {}

    def series(self, labels: Hashable) -> M:
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = self._new(labels)
        return found

    def _new(self, labels: Hashable) -> M:
        if not self._labels:
            return self._metric
        if len(self._series) >= MOST_SERIES:
            return self._metric.labels(*[OTHER] * len(self._labels))
        return self._metric.labels(*labels) if isinstance(labels, tuple) else self._metric.labels(labels)


class Exporter:
    """Moves one worker's `Metrics` to Prometheus's client library, and renders those of all workers.

    `slot` is a number that no other living worker has. One that takes a dead worker's goes on with its counters.
    Without a folder, or with one that has no room, only this process's figures are told.
    """

    def __init__(self, metrics: Metrics, folder: Path | None = None, slot: int = 0, board: Board | None = None) -> None:
        self._metrics, self._board = metrics, board
        self._folder = folder if folder is not None and _has_room(folder, slot) else None
        self._registry = CollectorRegistry()
        if self._folder is not None:
            os.environ[FOLDER_VARIABLE] = str(self._folder)
            values.ValueClass = values.MultiProcessValue(lambda: slot)
        told = vars(metrics).values()
        self._counts = [(one, self._counter(one)) for one in told if isinstance(one, Count)]
        self._spreads = [(one, self._histogram(one)) for one in told if isinstance(one, Spread)]
        self._levels = [(one, self._gauge(one)) for one in told if isinstance(one, Level)]

    def flush(self) -> None:
        """Takes what was counted since the last time. Belongs to the thread that counts."""
        try:
            self._take()
        except Exception:
            log.exception("metrics_failed")  # a bug; figures may be wrong, and no request is
            for kept in (*self._counts, *self._spreads):
                kept[0].clear()

    def _take(self) -> None:
        self._metrics.sort_out()
        for count, counter in self._counts:
            for labels, times in count.items():
                counter.series(labels).inc(times)
            count.clear()
        for spread, histogram in self._spreads:
            for labels, found in spread.items():
                histogram.series(labels).observe_all(found)
            spread.clear()
        for level, gauge in self._levels:
            for labels, figure in level.items():
                gauge.series(labels).set(figure)

    def page(self) -> bytes:
        """Everything, in Prometheus's text format. Reads files: not for the thread that answers requests."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=str(self._folder))
        if self._board is None:
            return generate_latest(registry)
        workers = CollectorRegistry()
        workers.register(Workers(self._board))
        return generate_latest(registry) + generate_latest(workers)

    def _counter(self, count: Count) -> Family[Counter]:
        made = Family(Counter(count.name, count.help, count.labels, registry=self._registry), count.labels)
        for labels in count.known:  # told as 0 from the start: an increase from nothing would be no increase
            made.series(labels)
        return made

    def _histogram(self, spread: Spread) -> Family[BulkHistogram]:
        made = BulkHistogram(spread.name, spread.help, spread.labels, registry=self._registry, buckets=spread.bounds)
        return Family(made, spread.labels)

    def _gauge(self, level: Level) -> Family[Gauge]:
        mode = f"live{level.over}"
        made = Gauge(level.name, level.help, level.labels, registry=self._registry, multiprocess_mode=mode)
        return Family(made, level.labels)


_WORKER = ["worker", "build", "release", "catalog", "state"]


class Workers(Collector):
    """What each worker serves, and what became of releases: as the board has it now, and so nothing of the dead."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("segue_worker_info", "A living worker.", labels=_WORKER)
        models = GaugeMetricFamily(
            "segue_worker_model_info", "A model that it uses.", labels=["worker", "model", "scorer"]
        )
        for one in self._board.rows():
            info.add_metric([str(one.slot), one.build, one.release, one.catalog, one.state], 1)
            for model in one.models.values():
                models.add_metric([str(one.slot), model, one.scorer], 1)
        yield info
        yield models
        yield CounterMetricFamily("segue_worker_restarts", "Processes started again.", value=self._board.restarts)
        verdict = self._board.verdict()
        yield CounterMetricFamily("segue_refused_releases", "Releases that no worker took.", value=verdict.refusals)
        refused = "1: the release that is wanted was refused, and another one serves."
        yield GaugeMetricFamily("segue_release_refused", refused, value=float(bool(verdict.refused)))


def _has_room(folder: Path, slot: int) -> bool:
    """Reserves what the files of a worker may come to: writing to one that has no room on its disk ends a process.

    Each comes into being at its full size: one that is empty would be no file of figures to whoever reads it then.
    """
    try:
        for kind, size in FILES.items():
            file, draft = folder / f"{kind}_{slot}.db", folder / f"{kind}_{slot}.draft"
            if not file.exists():
                with draft.open("wb") as reserved:
                    os.posix_fallocate(reserved.fileno(), 0, size)
                draft.replace(file)
    except OSError as error:
        log.error("metrics_apart", why=f"no room in {folder} ({error.strerror}): /metrics tells of one worker alone")
        return False
    return True
