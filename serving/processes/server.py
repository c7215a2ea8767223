"""One process that answers requests: it accepts from a socket that others may share, and it drains."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from serving.http.protocol import protocol
from serving.pressure import Pressure
from serving.processes.board import CLOSED, DRAINING, SERVING
from serving.runtime import Runtime

CONNECTIONS_CLOSE_WITHIN = 10
"""Seconds for open requests to end, and for idle connections of a worker that retires."""
LEAVE_TO_OTHERS = 0.002
"""Seconds for which a connection is left to workers that have fewer."""
OUT_OF_FILES = 0.2

log = structlog.get_logger()


def config(app: FastAPI, pressure: Pressure) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol(pressure),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CONNECTIONS_CLOSE_WITHIN,
    )


class Acceptor:
    """Accepts connections from a listening socket that several workers share.

    The kernel would hand all of a burst to the worker that it wakes first. So one that has more connections than
    another leaves the next for a moment, and takes it only if nobody else did.
    """

    def __init__(self, listening: socket.socket, connect: Callable[[], asyncio.Protocol], is_ahead: Callable[[], bool]):
        self._listening, self._connect, self._is_ahead = listening, connect, is_ahead
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._left_once = False
        listening.setblocking(False)
        self._resume()

    @property
    def pending(self) -> int:
        return len(self._connecting)

    def close(self) -> None:
        """Accepts no more. What waits in the socket's queue is for those that still hold it open."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        if not self._left_once and self._is_ahead():
            self._left_once = True
            self._rest(LEAVE_TO_OTHERS)
            return
        self._left_once = False
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client has gone
        except OSError as error:
            log.error("accept_failed", why=error.strerror)
            self._rest(OUT_OF_FILES)
            return
        client.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._connect, client))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: "asyncio.Task[object]") -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.exception()  # a client that went at once: nobody is there to be told


class Server(uvicorn.Server):
    """Drains at SIGTERM: `/readyz` says 503, then no new connections, then the open requests end, then the logs.

    While it drains, each answer asks its client to close the connection, so that none is cut off in between.
    """

    def __init__(
        self,
        app: FastAPI,
        runtime: Runtime,
        listening: socket.socket,
        drain: float,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config(app, runtime.pressure))
        self._runtime, self._listening = runtime, listening
        self._drain, self._on_serving = drain, on_serving
        self._acceptor: Acceptor | None = None
        self._leave_at: float | None = None
        self._retiring = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])  # it starts the application; the listening is our own
        if not self.started or self.should_exit:
            return
        self._acceptor = Acceptor(self._listening, self._connect, self._is_ahead)
        self._runtime.tell(SERVING)
        self._on_serving()

    def drain(self) -> None:
        """Leaves after the time that a load balancer needs to look away; answers until then."""
        if self._leave_at is None:
            self._runtime.draining = True
            self._part(self._drain)

    def retire(self) -> None:
        """Leaves to its peers what comes now, and goes when its own connections have ended."""
        if self._leave_at is None and self._acceptor is not None:
            self._acceptor.close()
            self._retiring = True
            self._part(CONNECTIONS_CLOSE_WITHIN)
            self._count()

    def leave(self) -> None:
        """At once, with the open requests answered; at the second time, without."""
        self._runtime.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first SIGTERM drains; a second one, or Ctrl-C, ends at once."""
        if sig == signal.SIGTERM and self._leave_at is None:
            self.drain()
        else:
            self.leave()

    async def on_tick(self, counter: int) -> bool:
        self._runtime.board.beat(self._runtime.place)
        self._count()
        if self._leave_at is not None and (time.monotonic() >= self._leave_at or (self._retiring and self._is_idle())):
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None and not self._retiring:
            self._acceptor.close()
        await super().shutdown(sockets)

    def _part(self, seconds: float) -> None:
        self._leave_at = time.monotonic() + seconds
        self._runtime.tell(DRAINING)
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)  # uvicorn makes the default headers of these, once a second
        self.server_state.default_headers = [*self.server_state.default_headers, close]

    def _connect(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _open(self) -> int:
        pending = self._acceptor.pending if self._acceptor is not None else 0
        return len(self.server_state.connections) + pending

    def _is_idle(self) -> bool:
        return self._open() == 0

    def _count(self) -> None:
        self._runtime.board.count(self._runtime.place, CLOSED if self._retiring else self._open())

    def _is_ahead(self) -> bool:
        self._count()
        return self._runtime.board.is_ahead(self._runtime.place)
