"""The supervisor: a small process that owns the listening socket and keeps the workers alive.

It answers no request and loads no release. It starts the scout and so many workers, each a fork of this process with
the application already imported, starts anew those that die, replaces them one by one at SIGHUP, and ends them all
when it is told to end. A child knows by the end of a pipe that the supervisor is gone.
"""

import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog
from prometheus_client import multiprocess

from decisioning.errors import UserError
from serving import main
from serving.figures.exposition import shared_folder
from serving.processes import scout
from serving.processes.board import DRAINING, FAILED, SERVING
from serving.processes.child import HANDLED, Bell, Child, Luck, Order, fork, how
from serving.processes.server import CONNECTIONS_CLOSE_WITHIN
from serving.processes.shared import Shared
from serving.processes.worker import work
from serving.runtime import KEYS_EVERY
from serving.settings import Settings
from stores.releases import ReleaseStore

TICK = 0.05
"""Seconds between two steps while children come or go."""
CALM_TICK = 0.25
"""The same while all of them serve. A signal ends either: that a child has ended is one."""
MOST_STILLBORN = 5
"""Children in a row that died before they served, while nobody else does, before the server gives up."""
KILL_AFTER = CONNECTIONS_CLOSE_WITHIN + 5.0
"""Seconds that a child has to leave in, on top of the drain."""

log = structlog.get_logger()


def serve(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serves by `settings.workers` processes until SIGTERM or SIGINT, then returns.

    `on_ready` is called with the address once all of them answer. Call it from a process with one thread. Raises
    UserError where the address can't be had, or where the workers can't start.
    """
    main.configure_log(settings)
    with main.listen(settings) as listening, shared_folder() as metrics:
        main.check(settings)
        Supervisor(settings, Shared.make(settings, metrics), listening, on_ready).run()


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        listening: socket.socket,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        self._settings, self._shared, self._listening = settings, shared, listening
        self._on_ready = on_ready
        self._url = main.url_of(listening)
        self._had_terminal = os.isatty(0)
        self._children: list[Child] = []
        self._heard: list[int] = []
        self._old: list[Child] = []
        """The workers that are to be replaced, one after the other."""
        self._stops = 0
        """How often it was told to end."""
        self._is_up = False
        self._luck = Luck()
        self._fault: str | None = None
        self._keys_at = 0.0
        self._paused = 0.0  # seconds since the last step

    def run(self) -> None:
        """Until it was told to end and all children have ended. Raises UserError where none can serve."""
        gc.collect()
        gc.freeze()  # the children share these pages for as long as nobody touches them
        before = {one: signal.signal(one, self._hear) for one in HANDLED}
        try:
            with Bell() as bell:
                while self._children or not self._stops:
                    self._step()
                    self._paused = bell.pause(CALM_TICK if self._is_calm else TICK)
        finally:
            for child in self._children:  # of a supervisor that fails: none, else
                child.kill()
            for one, handler in before.items():
                signal.signal(one, handler)
            gc.unfreeze()
        if self._fault is not None:
            raise UserError(self._fault)

    @property
    def _is_calm(self) -> bool:
        """Whether all serve, and nobody is to leave."""
        is_whole = len(self._children) > self._settings.workers and not self._stops
        return is_whole and all(child.has_served and child.leaves_by is None for child in self._children)

    def _hear(self, sig: int, frame: FrameType | None) -> None:
        self._heard.append(sig)

    def _step(self) -> None:
        while self._heard:
            self._react(self._heard.pop(0))
        self._bury()
        self._enforce()
        if not self._stops:
            self._follow_keys()
            self._look()
            self._fill()
            self._roll()

    def _follow_keys(self) -> None:
        """So that a worker that is started later has the last good keys, also while their file is damaged."""
        if time.monotonic() >= self._keys_at:
            self._keys_at = time.monotonic() + KEYS_EVERY
            self._shared.access.refresh()

    def _react(self, sig: int) -> None:
        if sig == signal.SIGHUP and not (self._had_terminal and not os.isatty(0)):
            if not self._stops and not self._old:
                self._old = self._workers()
                log.info("rolling", workers=len(self._old))
        elif sig == signal.SIGTERM and not self._stops:
            self._stop(Order.DRAIN, self._settings.drain)
        else:  # Ctrl-C, a terminal that is gone, or told again
            self._stop(Order.LEAVE, 0.0)

    def _stop(self, order: Order, seconds: float) -> None:
        self._stops += 1
        self._listening.close()
        log.info("ending", workers=len(self._workers()), within=seconds)
        for child in self._children:
            child.tell(order, seconds + KILL_AFTER if self._stops < 3 else 0.0)

    def _workers(self) -> list[Child]:
        """Those that were not told to leave."""
        return [child for child in self._children if child.place is not None and child.leaves_by is None]

    def _look(self) -> None:
        """Who serves by now, and who was told to leave by somebody else; and once all serve, says so."""
        is_decided = self._shared.board.approved() is not None
        for child in self._children:
            row = self._shared.board.row(child.place) if child.place is not None else None
            if not child.has_served and (is_decided if child.place is None else row and row.state == SERVING):
                child.has_served = True
                self._luck.served()
            if row is not None and row.state == DRAINING and child.leaves_by is None:
                log.info("worker_leaves", leaves=child.pid)
                child.leaves_by = time.monotonic() + KILL_AFTER
            if not is_decided:
                child.began = time.monotonic()  # it can't do anything yet
        if not self._is_up and sum(child.has_served for child in self._workers()) == self._settings.workers:
            self._is_up = True
            release = self._shared.board.approved()
            log.info("serving", url=self._url, release=release or "none", workers=self._settings.workers)
            if self._on_ready is not None:
                self._on_ready(self._url)

    def _fill(self) -> None:
        """Starts what is missing: the scout, a worker that died, one that shall take another's place."""
        wanted = self._settings.workers + (1 if self._old and self._old[0].leaves_by is None else 0)
        while self._luck.may_start:
            if all(child.place is not None for child in self._children):
                self._start(None)
            elif len(self._workers()) < wanted:
                taken = {child.place for child in self._children}
                self._start(next(place for place in self._shared.board.places if place not in taken))
            else:
                break

    def _roll(self) -> None:
        """One at a time: its successor serves before it leaves, and it has left before the next one's turn."""
        if not self._old or self._old[0].leaves_by is not None:
            return
        if sum(child.has_served for child in self._workers()) > self._settings.workers:
            self._old[0].tell(Order.RETIRE, KILL_AFTER)

    def _enforce(self) -> None:
        """Kills what does not leave in time, never gets to serve, or hangs."""
        for child in self._children:
            beats = 0 if child.place is None else self._shared.board.beats(child.place)
            why = child.objection(beats, self._paused)
            if why is not None and not child.is_killed:
                log.error(f"{child.kind}_killed", killed=child.pid, why=why)
                child.kill()

    def _bury(self) -> None:
        for child in list(self._children):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._children.remove(child)
                os.close(child.leash)
                self._settle(child, status)
                if child in self._old:
                    self._old.remove(child)
                    if not self._old:
                        log.info("rolled")

    def _settle(self, child: Child, status: int) -> None:
        """What follows from the end of a child."""
        why = ""
        if child.place is not None:
            row = self._shared.board.row(child.place)
            why = row.why if row is not None and row.state == FAILED else ""
            self._shared.board.clear(child.place)
            if self._shared.metrics is not None:
                multiprocess.mark_process_dead(child.place, str(self._shared.metrics))
        if child.leaves_by is not None or self._stops:
            return
        lived = round(time.monotonic() - child.began, 1)
        log.error(f"{child.kind}_died", died=child.pid, how=how(status), lived=lived, why=why or None)
        self._shared.board.note_restart()
        self._luck.died(child)
        if self._old and child.place is not None and not child.has_served:
            self._old = []
            log.error("rolling_stopped", why="the new worker died before it served: the others stay as they are")
        if (why or self._luck.stillborn >= MOST_STILLBORN) and not any(one.has_served for one in self._workers()):
            self._fault = why or (
                f"The server gives up: {self._luck.stillborn} workers in a row ended before they served (the last one: "
                f"{how(status)}). Its log says more."
            )
            self._stop(Order.LEAVE, 0.0)

    def _start(self, place: int | None) -> None:
        try:
            self._children.append(fork(place, self._children, self._live))
        except OSError as error:
            log.error("fork_failed", why=error.strerror)
            self._luck.wait()

    def _live(self, place: int | None, leash: int) -> None:
        """The life of a child."""
        if place is not None:
            work(self._settings, self._shared, place, self._listening, leash)
        self._listening.close()
        main.configure_log(self._settings)
        scout.follow(ReleaseStore(self._settings.releases_folder), self._shared.board, leash)
