"""A request for a decision on its way past ASGI: from its connection straight to the application, and back at once.

ASGI costs what a decision itself may cost: a scope, a task, and a message for each part of an answer. All other
requests, and those for decisions that did not come whole, go that way (`serving.http.exchange`).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.http.exchange import INTERNAL, lines

if TYPE_CHECKING:
    from serving.http.connection import Connection

PATH = "/v1/decisions"
"""Of the requests that are errands, where they are POSTs."""

log = logging.getLogger("uvicorn.error")


class Errand(msgspec.Struct, eq=False):
    """What the application is asked, and where it puts its answer: once, and whether or not it has returned."""

    connection: "Connection"
    arrived: float
    """By `perf_counter`."""
    authorization: bytes | None
    """The header of this name, as it came; so `deadline`."""
    deadline: bytes | None
    body: bytes
    keep_alive: bool = True
    is_answered: bool = False
    is_gone: bool = False
    _steps: Coroutine[Any, Any, None] | None = None
    _answer: tuple[bytes, bytes, bytes] | None = None
    is_whole: ClassVar = True

    # --- What the application calls

    def ready(self, status: int, headers: bytes, body: bytes) -> None:
        """Has an answer at hand for `send`. The headers are lines, each with its end, and name length and type."""
        self._answer = STATUS_LINE[status], headers, body

    def send(self) -> None:
        """Sends what is ready, in one write."""
        if self.is_gone or self.is_answered or self._answer is None:
            return
        (status, headers, body), connection = self._answer, self.connection
        standing, closes = connection.standing(connection.server_state.default_headers)
        if closes:
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.is_answered = True
        connection.transport.write(b"".join((status, standing, headers, end, body)))
        connection.answered(self)

    # --- What the connection calls

    def start(self, app: Any) -> None:
        """Lets the application answer, from wait to wait, and at once to the first one.

        A task would cost more than what most requests do up to there, and a turn of the loop.
        """
        self._steps = app.direct(self)
        self.connection.tasks.add(self)  # type: ignore[arg-type]
        self._step()

    def cancel(self, msg: str | None = None) -> None:
        """The server, which ends, waits no longer."""
        self.connection.transport.abort()

    def leave(self) -> None:
        """The client has gone."""
        self.is_gone = True

    # --- Inner life

    def _step(self, _: object = None) -> None:
        """Up to the next wait, or to the end."""
        try:
            waits_for = self._steps.send(None)  # type: ignore[union-attr]
        except StopIteration:
            pass
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  it is logged there
            self._failed()
        else:
            if waits_for is None:  # it lets others go first
                self.connection.loop.call_soon(self._step)
            else:
                waits_for._asyncio_future_blocking = False  # as a task does, to say that somebody saw to it
                waits_for.add_done_callback(self._step)
            return
        self._steps = None
        self.connection.tasks.discard(self)  # type: ignore[arg-type]

    def _failed(self) -> None:
        """The application has. Where nothing is sent yet, it is a 500, and the last answer of its connection."""
        log.exception("The application failed.")
        if not self.is_answered:
            self.keep_alive = False
            body = INTERNAL.body()
            self.ready(INTERNAL.status, lines(INTERNAL, len(body)), body)
            self.send()


Direct = Callable[[Errand], Coroutine[Any, Any, None]]
"""An application's way to answer errands: a coroutine that asks for no task of its own, from future to future."""
