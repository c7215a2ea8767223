"""One request and its answer: the ASGI side of a connection."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.errors import ApiError

if TYPE_CHECKING:
    from serving.http.connection import Connection

Headers = Iterable[tuple[bytes, bytes]]

ARRIVED = "segue.arrived"
"""Where a scope says at which moment, by `perf_counter`, its request came in."""
INTERNAL = ApiError(500, "internal", "This is a bug of the server.")
WITHOUT_BODY = (204, 304)

log = logging.getLogger("uvicorn.error")


class Exchange:
    """What uvicorn calls a cycle, and leaner.

    The body is nearly always whole before the application starts, so that nothing has to be awaited; no event is made
    that nobody waits for.
    """

    __slots__ = (
        "_connection", "_is_chunked", "_is_head", "_takes_chunks", "_waiter", "arrived", "body", "has_begun",
        "is_answered", "is_gone", "is_whole", "keep_alive", "scope", "task", "wants_continue",
    )  # fmt: skip

    def __init__(
        self, connection: "Connection", scope: dict[str, Any], *, keep_alive: bool, wants_continue: bool
    ) -> None:
        self._connection, self.scope = connection, scope
        self.keep_alive, self.wants_continue = keep_alive, wants_continue
        self.body: bytes | None = b""
        """What has come in and was not asked for yet; None once the application has got the last of it."""
        self.is_whole = False
        """Whether the whole body has come in."""
        self.has_begun = self.is_answered = self.is_gone = False
        self.arrived = 0.0
        self.task: asyncio.Task[None] | None = None
        self._is_head, self._takes_chunks = scope["method"] == "HEAD", scope["http_version"] == "1.1"
        self._is_chunked = False
        self._waiter: asyncio.Future[None] | None = None

    # --- What the application calls

    async def receive(self) -> dict[str, Any]:
        if self.wants_continue and not (self.has_begun or self.is_whole):
            self.wants_continue = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.is_gone or self.is_answered or self.body or (self.is_whole and self.body is not None)):
            self._connection.flow.resume_reading()
            await self._news()
        if self.is_gone or self.is_answered:
            return {"type": "http.disconnect"}
        body, self.body = self.body, None if self.is_whole else b""
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    async def send(self, message: dict[str, Any]) -> None:
        if self._connection.flow.write_paused and not self.is_gone:
            await self._connection.flow.drain()
        if self.is_gone or self.is_answered:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()), b"")
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))

    # --- What the connection calls

    def start(self, app: Callable[..., Any]) -> None:
        """Lets the application answer, in a task."""
        self.scope[ARRIVED] = self.arrived
        self.task = task = self._connection.loop.create_task(self._run(app))
        self._connection.tasks.add(task)

    def feed(self, body: bytes) -> None:
        self.body = self.body + body if self.body else body
        self._tell()

    def complete(self) -> None:
        self.is_whole = True
        self._tell()

    def leave(self) -> None:
        """The client has gone."""
        self.is_gone = True
        if self.task is None:  # nobody has begun with it, and nobody will
            self.scope = {}
        self._tell()

    def fail(self, error: ApiError) -> None:
        """Answers with an error, the last answer of its connection."""
        self.keep_alive = False
        if self.is_gone or self.has_begun:
            return
        body = error.body()
        self._begin(error.status, error_headers(error, len(body)), body)
        self._finish()

    # --- Inner life

    async def _run(self, app: Callable[..., Any]) -> None:
        """Where the application fails, the client gets a 500 if nothing has been sent yet."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("The application failed.")
        finally:
            self._connection.tasks.discard(self.task)  # type: ignore[arg-type]
            self.task, self.scope = None, {}  # which hold this exchange: so that it goes without the garbage collector
        self._returned()

    def _returned(self) -> None:
        """The application has: all should be answered by now."""
        if self.is_answered or self.is_gone:
            return
        if self.has_begun:
            self._connection.transport.abort()  # half an answer must not look like a whole one
        else:
            self.fail(INTERNAL)

    def _tell(self) -> None:
        """Wakes whoever waits in `receive`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self) -> None:
        self._waiter = self._connection.loop.create_future()
        await self._waiter

    def _begin(self, status: int, headers: Headers, body: bytes) -> None:
        if self.has_begun:
            raise RuntimeError("The answer has begun already.")
        self.has_begun = True
        standing, closes = self._connection.standing_headers()
        parts = [STATUS_LINE[status], standing]
        has_length = status in WITHOUT_BODY or self._is_head
        for name, value in headers:
            if b"\n" in value or b"\r" in value:
                raise RuntimeError("A header of the answer has several lines.")
            match name.lower():
                case b"connection":
                    closes = closes or value.lower() == b"close"
                    continue
                case b"content-length" | b"transfer-encoding":
                    has_length = True
            parts += (name, b": ", value, b"\r\n")
        if not has_length and self._takes_chunks:
            self._is_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        # What is left of a body would be taken for the next request; without a length the end is the connection's.
        self.keep_alive = self.keep_alive and not closes and self.is_whole and (has_length or self._is_chunked)
        parts += (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n", b"" if self._is_head else body)
        self._connection.transport.write(b"".join(parts))

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if not self.has_begun:
            raise RuntimeError("An answer begins with its status.")
        if self._is_head:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        if body:
            self._connection.transport.write(body)
        if is_last:
            self._finish()

    def _finish(self) -> None:
        self.is_answered = True
        self._tell()
        self._connection.answered(self)


def error_headers(error: ApiError, length: int) -> list[tuple[bytes, bytes]]:
    """Of an error that the connection itself sends."""
    return [
        *[(name.lower().encode(), value.encode()) for name, value in error.headers.items()],
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % length),
    ]


def lines(error: ApiError, length: int) -> bytes:
    """The same, ready to be sent."""
    return b"".join(b"%b: %b\r\n" % header for header in error_headers(error, length))


def whole(error: ApiError, standing: bytes, *, keep_alive: bool) -> bytes:
    """All the bytes of an error that no application was asked about."""
    body = error.body()
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((STATUS_LINE[error.status], standing, lines(error, len(body)), end, body))
