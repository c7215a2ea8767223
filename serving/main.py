"""How a server is put together: the listening socket first, then what a process needs to answer requests."""

import logging
import socket
from collections.abc import Callable
from functools import partial

import structlog

from decisioning.errors import UserError
from serving import logs
from serving.app import create_app
from serving.guarded.breaker import GuardedStore
from serving.processes.server import Server
from serving.processes.shared import Shared
from serving.runtime import Runtime
from serving.settings import Settings
from stores.connect import address
from stores.log.event_log import EventLog
from stores.online.memory_store import MemoryStore
from stores.online.port import OnlineStore
from stores.online.redis_store import RedisStore
from stores.releases import ReleaseStore

BACKLOG = 2048
STORE_TIMEOUT = 0.25
"""For the store's own calls. A request waits less: no longer than its surface's deadline."""

log = structlog.get_logger()


def run(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serves in this very process until SIGTERM or SIGINT, then returns: for a tour or a test.

    It takes releases as they are, where `serving.processes.supervisor.serve` tries each one first, in a process of its
    own. `on_ready` is called with the address once requests are answered. Raises UserError where the address can't be
    had.
    """
    configure_log(settings)
    listening = listen(settings)  # first: nothing is opened for a server that can't be reached
    url = url_of(listening)
    runtime = runtime_of(settings, Shared.make(settings))

    def serving() -> None:
        log.info("serving", url=url, release=runtime.current.release.id)
        if on_ready is not None:
            on_ready(url)

    Server(create_app(runtime), runtime, listening, settings.drain, serving).run()


def configure_log(settings: Settings) -> None:
    logs.configure(logging.WARNING if settings.quiet else logging.INFO)


def check(settings: Settings) -> None:
    """Raises UserError for what would keep every worker from starting."""
    settings.home.secret()
    if settings.redis_url:
        address(settings.redis_url)
    else:
        log.warning("store_in_memory", why="no REDIS_URL: no features, and caps are those of one process alone")


def listen(settings: Settings) -> socket.socket:
    """Raises UserError where the address can't be had."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (while attempting")[0]
        raise UserError(
            f"The server can't listen on {host}, port {port} ({why}): choose another --host or --port."
        ) from None


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def runtime_of(settings: Settings, shared: Shared, place: int = 1) -> Runtime:
    """What a process answers requests with. Opens logs and sockets: after any fork."""
    folder = settings.logs_folder
    shared.access.counts.worker = place
    return Runtime(
        secret=settings.home.secret(),
        store=GuardedStore(_store(settings)),
        decisions=EventLog(folder / "decisions", alert=partial(_alert, "decisions")),
        events=EventLog(folder / "events", alert=partial(_alert, "events")),
        releases=ReleaseStore(settings.releases_folder),
        catalog=settings.catalog_folder,
        access=shared.access,
        board=shared.board,
        place=place,
    )


def _alert(name: str, dropped: int, still: bool) -> None:
    """What the server says when its log can't be written, and when it can again."""
    if still:
        log.error("log_dropping", log=name, dropped=dropped, why="its disk is full or its folder can't be written")
    else:
        log.warning("log_recovered", log=name, dropped=dropped)


def _store(settings: Settings) -> OnlineStore:
    if settings.redis_url:
        return RedisStore(settings.redis_url, timeout=STORE_TIMEOUT, namespace=settings.home.namespace)
    return MemoryStore()
