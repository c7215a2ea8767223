"""One request and its answer: the ASGI side of a connection."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.errors import ApiError

if TYPE_CHECKING:
    from serving.protocol import Protocol

Headers = Iterable[tuple[bytes, bytes]]
Steps = Coroutine[Any, Any, None]
"""A coroutine that may be run without a task: from future to future."""
Reply = Callable[[int, Headers | bytes, bytes], None]

INTERNAL = ApiError(500, "internal", "This is a bug of the server.")
WITHOUT_BODY = (204, 304)

log = logging.getLogger("uvicorn.error")


class Exchange:
    """What uvicorn calls a cycle, and leaner.

    The body is nearly always whole before the application starts, so that nothing has to be awaited; an answer may go
    out in one write, and after the application has returned (`promise`); no event is made that nobody waits for.
    """

    __slots__ = (
        "_connection", "_is_chunked", "_is_head", "_is_promised", "_steps", "_takes_chunks", "_waiter", "arrived",
        "body", "has_begun", "is_answered", "is_gone", "is_whole", "keep_alive", "scope", "task", "wants_continue",
    )  # fmt: skip

    def __init__(
        self, connection: "Protocol", scope: dict[str, Any], *, keep_alive: bool, wants_continue: bool
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
        self._is_promised = False
        self._waiter: asyncio.Future[None] | None = None
        self._steps: Steps | None = None
        scope["extensions"] = {"segue.promise": self.promise, "segue.body": self.whole_body}

    async def run(self, app: Callable[..., Any]) -> None:
        """Lets the application answer. Where it fails, the client gets a 500 if nothing has been sent yet."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:  # noqa: BLE001  it is logged there
            self._failed()
        finally:
            self._connection.tasks.discard(self.task)  # type: ignore[arg-type]
            self.task, self.scope = None, {}  # which hold this exchange: so that it goes without the garbage collector
        self._returned()

    def run_by_hand(self, steps: Steps) -> None:
        """The same for a coroutine that asks for no task of its own: from wait to wait, and at once to the first one.

        A task would cost more than what most requests do up to there, and a turn of the loop.
        """
        self._steps = steps
        self._connection.tasks.add(self)  # type: ignore[arg-type]
        self._step()

    def cancel(self, msg: str | None = None) -> None:
        """The server, which ends, waits no longer for what is run by hand."""
        self._connection.transport.abort()

    # --- What the application calls

    def whole_body(self) -> bytes | None:
        """The body, where it has come in as a whole and was not asked for yet."""
        if not self.is_whole or self.is_gone or self.is_answered:
            return None
        body, self.body = self.body, None
        return body

    async def receive(self) -> dict[str, Any]:
        if self.wants_continue and not self.has_begun:
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

    def promise(self) -> Reply:
        """For who answers later: `reply(status, headers, body)` sends all of it in one write.

        The headers have to name length and type; they may be given as lines that are ready to be sent, each with its
        end. The application may return before; it has to reply at some time.
        """
        self._is_promised = True
        return self._reply

    # --- What the connection calls

    def feed(self, body: bytes) -> None:
        self.body = self.body + body if self.body else body
        self._tell()

    def complete(self) -> None:
        self.is_whole = True
        self._tell()

    def leave(self) -> None:
        """The client has gone."""
        self.is_gone = True
        if self.task is None and self._steps is None:  # nobody has begun with it, and nobody will
            self.scope = {}
        self._tell()

    def fail(self, error: ApiError) -> None:
        """Answers with an error, the last answer of its connection."""
        self.keep_alive = False
        body = error.body()
        self._reply(error.status, error_headers(error, len(body)), body)

    # --- Inner life

    def _step(self, _: object = None) -> None:
        """Up to the next wait, or to the end."""
        steps = self._steps
        try:
            waits_for = steps.send(None)  # type: ignore[union-attr]
        except StopIteration:
            pass
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  it is logged there
            self._failed()
        else:
            if waits_for is None:  # it lets others go first
                self._connection.loop.call_soon(self._step)
            else:
                waits_for._asyncio_future_blocking = False  # as a task does, to say that somebody saw to it
                waits_for.add_done_callback(self._step)
            return
        self._connection.tasks.discard(self)  # type: ignore[arg-type]
        self._steps, self.scope = None, {}
        self._returned()

    def _failed(self) -> None:
        log.exception("The application failed.")
        self._is_promised = False

    def _returned(self) -> None:
        """The application has: without a promise, all should be answered by now."""
        if self.is_answered or self.is_gone or self._is_promised:
            return
        if self.has_begun:
            self._connection.transport.abort()  # half an answer must not look like a whole one
        else:
            self.fail(INTERNAL)

    def _reply(self, status: int, headers: Headers | bytes, body: bytes) -> None:
        if self.is_gone or self.has_begun:
            return
        if isinstance(headers, bytes):
            self.has_begun = True
            standing, closes = self._connection.standing_headers()
            self.keep_alive = self.keep_alive and not closes and self.is_whole
            end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
            self._connection.transport.write(b"".join((STATUS_LINE[status], standing, headers, end, body)))
        else:
            self._begin(status, headers, body)
        self._finish()

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


def whole(error: ApiError, standing: bytes, *, keep_alive: bool) -> bytes:
    """All the bytes of an error that no application was asked about."""
    body = error.body()
    lines = b"".join(b"%b: %b\r\n" % header for header in error_headers(error, len(body)))
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((STATUS_LINE[error.status], standing, lines, end, body))
