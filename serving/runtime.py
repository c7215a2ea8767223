"""What a server holds between requests: one reference to the current release, the store, the logs, the secret."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from msgspec import structs

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import EventType, Facts, Request
from decisioning.engine import Release, decide
from features.context import ContextReader
from features.schema import Schema
from serving.about import row_of
from serving.access import Access
from serving.deciding.ids import RandomIds
from serving.deciding.journal import Journal
from serving.deciding.score_cache import ScoreCache, noted
from serving.deciding.stopwatch import Stopwatch, watched
from serving.figures.exposition import FLUSH_EVERY, Exporter
from serving.figures.metrics import Metrics
from serving.figures.standing import Standing
from serving.guarded.breaker import GuardedStore
from serving.pressure import Pressure
from serving.processes.board import STARTING, Board, Row
from stores.catalog_files import read_catalog_files
from stores.log.event_log import Log
from stores.online.units import Ledger
from stores.releases import ReleaseStore

POLL_EVERY = 0.05
SWITCH_SECONDS = 0.0005
"""For which loading may keep the requests waiting at a time; Python's own choice is ten times as long."""
KEYS_EVERY = 0.5
WAIT = 0.02
RETRY_AFTER = 10.0
"""Seconds before a release that did not load is tried again: its files may only just be on their way."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Current:
    """A release, and what is derived from it once. The server swaps the whole, so that no request sees a mix."""

    release: Release
    schema: Schema
    contexts: ContextReader
    ledger: Ledger
    event_types: frozenset[str]
    """Those that some rule or group can know; others are kept all the same."""
    watch: Stopwatch | None = None
    """What a challenger's scoring takes; None where nothing challenges."""
    scores: ScoreCache = field(default_factory=ScoreCache)
    """What its models last said of each user."""

    @classmethod
    def of(cls, release: Release) -> "Current":
        release, scores = noted(release)
        release, watch = watched(release)
        catalog = release.catalog
        types = frozenset(EventType) | {group.converts_on for group in catalog.groups.values()}
        schema, contexts = Schema.of(catalog.features), ContextReader(catalog)
        return cls(release, schema, contexts, Ledger.of(catalog), types, watch, scores)


NOTHING_LOADED = Current.of(Release("none", Catalog("none")))


def prepared(release: Release) -> Current:
    """Ready for its first request: each surface has been decided once, which compiles the conditions.

    Runs off the event loop. What a release holds lives long: it is taken out of the garbage collector's sight.
    Raises whatever `decide` raises, so that a release that can't decide is refused.
    """
    current = Current.of(release)
    for surface in release.catalog.surfaces:
        decide(current.release, Request("warm", "warm", surface, time.time()), Facts())
    gc.collect()
    gc.freeze()
    return current


@contextmanager
def giving_way() -> Iterator[None]:
    """Within this, a thread that works hands over to one that waits more often than it usually would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def rules_of(folder: Path) -> Release:
    """The catalog of a folder as a release without models. Raises UserError for a bad one."""
    catalog = load_catalog(read_catalog_files(folder))
    return Release(f"catalog-{catalog.hash[:12]}", catalog)


@dataclass
class Runtime:
    """Built by `serving.main`, or by a test. `start` before the first request, `stop` after the last."""

    secret: bytes
    store: GuardedStore
    decisions: Log
    events: Log
    releases: ReleaseStore | None = None
    catalog: Path | None = None
    """A catalog folder to decide by rules from, as long as there is no release."""
    wanted: Callable[[], str | None] | None = None
    """The release to use, from somebody who has tried it ("": none; None: not known yet). Else what `releases` says."""
    access: Access = field(default_factory=Access)
    """Who may call; without a file of keys, everybody."""
    pressure: Pressure = field(default_factory=Pressure)
    """How far behind this process is."""
    board: Board = field(default_factory=lambda: Board(1))
    place: int = 1
    """Where on the board this process tells of itself."""
    clock: Callable[[], float] = time.time
    current: Current = NOTHING_LOADED
    draining: bool = False
    fresh: Callable[[], str] = field(default_factory=RandomIds)
    """Gives each decision that is not a sticky one its id."""
    journal: Journal = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    exporter: Exporter = field(init=False)
    """Tells Prometheus of this process alone, until the worker that this is shares a folder with the others."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _refused: tuple[str, float] = ("", 0.0)
    """The release that did not load, and when to try it again."""
    _row: Row = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(self.decisions)
        self.metrics.look = Standing(self)
        self.exporter = Exporter(self.metrics)
        self._row = row_of(self.place, self.current.release)

    @property
    def is_ready(self) -> bool:
        return self.current is not NOTHING_LOADED and not self.draining and self.access.lets_somebody_in

    async def start(self) -> None:
        """Loads the release to use, or else the catalog, and keeps following."""
        self.tell(STARTING)
        while self.wanted is not None and self.wanted() is None:
            if self.draining:  # told to end before anybody knows what to serve
                return
            await asyncio.sleep(WAIT)
        await self.refresh()
        if self.current is NOTHING_LOADED and self.catalog is not None:
            await self._load_rules(self.catalog)
        await self.store.warm(self.current.schema)
        self._tasks = [asyncio.create_task(one) for one in (self._follow(), self._follow_keys(), self._flush())]

    async def stop(self) -> None:
        self.draining = True
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.store.close()
        self.journal.flush()
        for kept in (self.decisions, self.events):
            await asyncio.to_thread(kept.close)
        self.exporter.flush()
        gc.unfreeze()  # what was frozen may be collected when the process ends

    async def refresh(self) -> None:
        """Takes the release to use, if it is another one. A release that does not load changes nothing."""
        releases, release_id = self.releases, ""
        if releases is None:
            return
        try:
            release_id = self._wanted() or ""
            if not release_id or self._is_settled(release_id):
                return
            with giving_way():
                loaded = await asyncio.to_thread(lambda: prepared(releases.load(release_id)))
        except Exception as error:  # noqa: BLE001  a broken release is refused, whatever is broken about it
            if self._refused[0] != release_id or not release_id:
                log.error("release_refused", release=release_id, why=str(error), kept=self.current.release.id)
            self._refused = (release_id, time.monotonic() + RETRY_AFTER)
            return
        self._swap(loaded)

    def about(self) -> dict[str, object]:
        """For `/version`: this process first, then all that serve with it."""
        own = row_of(self.place, self.current.release)
        workers = [structs.asdict(row) for row in self.board.rows()]
        about = {"build": own.build, "release": own.release, "catalog": own.catalog, "models": own.models}
        return {"worker": self.place, **about, "refused": self.board.verdict().refused or None, "workers": workers}

    def tell(self, state: str) -> None:
        """Says on the board what this process does, and by what."""
        self._row = structs.replace(self._row, state=state)
        self.board.post(self._row)

    def _wanted(self) -> str | None:
        if self.wanted is not None:
            return self.wanted()
        return (self.releases.current() or "") if self.releases is not None else ""

    def _is_settled(self, release_id: str) -> bool:
        refused, until = self._refused
        return release_id == self.current.release.id or (release_id == refused and time.monotonic() < until)

    async def _load_rules(self, folder: Path) -> None:
        try:
            loaded = await asyncio.to_thread(lambda: prepared(rules_of(folder)))
        except Exception as error:  # noqa: BLE001  an unreadable catalog must not keep the server from starting
            log.error("catalog_refused", why=str(error))
            return
        self._swap(loaded)

    def _swap(self, loaded: Current) -> None:
        before, self.current = self.current, loaded
        self.pressure.serve([one.deadline for one in loaded.release.catalog.surfaces.values()])
        state = self._row.state
        models = sorted(scorer.label for scorer in loaded.release.scorers.values())
        self._row = row_of(self.place, loaded.release)
        self.tell(state)
        log.info("release_loaded", release=loaded.release.id, before=before.release.id, models=models)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_EVERY)
            await self.refresh()

    async def _follow_keys(self) -> None:
        while True:
            await asyncio.to_thread(self.access.refresh)
            await asyncio.sleep(KEYS_EVERY)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self.exporter.flush()
