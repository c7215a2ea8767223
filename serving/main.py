"""The server process: builds the runtime from a work folder, serves until told to stop, and drains."""

import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from decisioning.errors import UserError
from serving import logs
from serving.app import create_app
from serving.breaker import GuardedStore
from serving.runtime import Runtime
from stores.home import Home
from stores.log.event_log import EventLog
from stores.online.memory_store import MemoryStore
from stores.online.port import OnlineStore
from stores.online.redis_store import RedisStore
from stores.releases import ReleaseStore

DRAIN = 1.0
"""Seconds for which `/readyz` says 503 while requests are still answered, so that a load balancer can look away."""
CONNECTIONS_CLOSE_WITHIN = 10
BACKLOG = 2048
STORE_TIMEOUT = 0.25
"""For the store's own calls. A request waits less: no longer than its surface's deadline."""

log = structlog.get_logger()


def run(
    home: Home,
    host: str = "127.0.0.1",
    port: int = 8080,
    redis_url: str | None = None,
    *,
    releases: Path | None = None,
    logs_folder: Path | None = None,
    catalog: Path | None = None,
    drain: float = DRAIN,
    on_ready: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> None:
    """Serves until SIGTERM or SIGINT, then returns.

    The paths default to those of `home`. Without `redis_url`, history and caps live in this process's memory and there
    are no features. `port` 0 takes a free one; `on_ready` is called with the address once requests are answered.
    `quiet` logs warnings and errors only. Raises UserError where the address
    can't be had.
    """
    logs.configure(logging.WARNING if quiet else logging.INFO)
    listening = _listening(host, port)  # first: nothing is opened for a server that can't be reached
    folder = logs_folder or home.logs
    runtime = Runtime(
        secret=home.secret(),
        store=GuardedStore(_store(redis_url, home.namespace)),
        decisions=EventLog(folder / "decisions", alert=partial(_alert, "decisions")),
        events=EventLog(folder / "events", alert=partial(_alert, "events")),
        releases=ReleaseStore(releases or home.releases),
        catalog=catalog or home.catalog,
    )
    config = uvicorn.Config(
        create_app(runtime),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CONNECTIONS_CLOSE_WITHIN,
    )
    Server(config, runtime, drain, on_ready).run(sockets=[listening])


def _alert(name: str, dropped: int, still: bool) -> None:
    """What the server says when its log can't be written, and when it can again."""
    if still:
        log.error("log_dropping", log=name, dropped=dropped, why="its disk is full or its folder can't be written")
    else:
        log.warning("log_recovered", log=name, dropped=dropped)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"The server can't listen on {host}, port {port} ({why}): choose another --host or --port."
        ) from None


def _store(redis_url: str | None, namespace: str) -> OnlineStore:
    if redis_url:
        return RedisStore(redis_url, timeout=STORE_TIMEOUT, namespace=namespace)
    log.warning("store_in_memory", why="no REDIS_URL: no features, and caps are those of this process alone")
    return MemoryStore()


class Server(uvicorn.Server):
    """At SIGTERM: first `/readyz` says 503, then no new connections, then the open requests end, then the logs."""

    def __init__(
        self, config: uvicorn.Config, runtime: Runtime, drain: float, on_ready: Callable[[str], None] | None
    ) -> None:
        super().__init__(config)
        self._runtime, self._drain, self._on_ready = runtime, drain, on_ready
        self._leave_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            log.info("serving", url=url, release=self._runtime.current.release.id)
            if self._on_ready is not None:
                self._on_ready(url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first SIGTERM drains; a second one, or Ctrl-C, ends at once (with the open requests answered)."""
        if sig == signal.SIGTERM and self._leave_at is None:
            self._runtime.draining = True
            self._leave_at = time.monotonic() + self._drain
        else:
            self.force_exit = self.should_exit
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)
