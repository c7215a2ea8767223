"""HTTP/1.1 as a worker speaks it: uvicorn's protocol over httptools, with a bound on everything that a client does.

uvicorn sets no deadline on a request's head or body, no limit on a head's size, on the requests that wait on one
connection or on the connections; and it answers what is no HTTP in plain text. All of that is here. What a client sends
is never repeated to it.
"""

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import ApiError
from serving.exchange import Exchange, whole
from serving.guard import (
    BUFFERED,
    CUT_SHORT,
    FULL,
    LEFTOVERS,
    LONG_HEAD,
    LONG_REQUEST,
    MAX_HEAD,
    MAX_REQUEST,
    MAX_WAITING,
    NO_HTTP,
    NO_TUNNEL,
    OVERLOADED,
    SLOW_BODY,
    SLOW_HEAD,
    TOO_MANY,
    Guard,
    Limits,
)
from serving.pressure import Pressure

SHEDS = {b"/v1/decisions": "decisions", b"/v1/events": "events"}
"""The routes that are refused where the worker is too far behind, by their names in metrics. All others are cheap, and
say how it is."""
OTHER = "other"

IDLE, HEAD, BODY, CLOSING = range(4)
"""What is being read: nothing, a request's head, its body, what a client still sends after its last answer."""


class Refused(Exception):
    """What ends the parsing of a request. A new one each time: one that is raised again keeps all it ever passed."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def protocol(pressure: Pressure, limits: Limits | None = None) -> type["Protocol"]:
    """The class that uvicorn makes a worker's connections of (`Config(http=…)`)."""
    return type("Protocol", (Protocol,), {"guard": Guard(pressure, limits or Limits())})


class Protocol(HttpToolsProtocol):
    """One connection."""

    guard: ClassVar[Guard]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stage, self._since = IDLE, perf_counter()
        self._arrived = self._since
        self._fed = 0  # bytes of the request that is being read, or after the last answer
        self._is_upgrade = False
        self._reading: Exchange | None = None  # not whole yet
        self._active: Exchange | None = None  # being answered
        self._waiting: deque[Exchange] = deque()  # for the one before to be answered
        self._last_words: ApiError | None = None  # after all that wait
        self.guard.watch(self.connections, self.loop)  # type: ignore[arg-type]
        self._route = ""
        if len(self.connections) > self.guard.limits.connections:
            self._end(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        for exchange in (self._reading, self._active, *self._waiting):
            if exchange is not None:
                exchange.leave()
                self.guard.pressure.in_hand.discard(exchange)
        self._waiting.clear()
        self._reading = self._active = None
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    # --- What a client sends

    def data_received(self, data: bytes) -> None:
        self._fed += len(data)
        if self._stage == CLOSING:
            if self._fed > LEFTOVERS:
                self.transport.abort()
            return
        self._arrived = self.guard.pressure.arrived()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self.transport.is_closing():
                return
            self._refuse(error.__context__.error if isinstance(error.__context__, Refused) else NO_HTTP)
            return
        if self._stage == HEAD and self._fed > MAX_HEAD:
            self._refuse(LONG_HEAD)
        elif self._stage == BODY and self._fed > MAX_REQUEST:
            self._refuse(LONG_REQUEST)

    def _feed(self, data: bytes) -> None:
        """A client that offers another protocol (curl and Java offer HTTP/2) is answered in this one.

        The parser takes such a request's body for the other protocol, so it gets the request again without the offer.
        """
        while True:
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def _without_upgrade(self) -> bytes:
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            kept.append((b"connection", b"close"))
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return line + b"".join(b"%b: %b\r\n" % header for header in kept) + b"\r\n"

    def eof_received(self) -> bool:
        """A client that has no more to say may still want to hear its answers."""
        if self._stage in (HEAD, BODY):
            self._refuse(CUT_SHORT)
        if self._active is None or self._stage == CLOSING:
            return False
        (self._waiting[-1] if self._waiting else self._active).keep_alive = False
        return True

    # --- What the parser finds in it

    def on_message_begin(self) -> None:
        self._stage, self._since = HEAD, self._arrived
        self.url, self._announced = b"", 0
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._announced = int(value)  # the parser has seen that it is one number
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._fed > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise Refused(LONG_HEAD)
        if self.transport.is_closing():  # what came before was the last
            raise Refused(NO_HTTP)
        if len(self._waiting) >= MAX_WAITING:
            raise Refused(TOO_MANY)
        self._stage, self._since = BODY, self._arrived
        self._is_upgrade = self.parser.should_upgrade()
        if self._is_upgrade:
            if self.parser.get_method() == b"CONNECT":
                raise Refused(NO_TUNNEL)
            return
        if self._is_refused():
            self.headers = []
            return
        self._reading = exchange = self._exchange()
        self.headers = []  # what follows a body is no part of its head
        if exchange.wants_continue or self._announced > BUFFERED:
            self._start(exchange)

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if exchange is None or exchange.is_answered:
            return
        exchange.feed(body)
        if len(exchange.body or b"") > BUFFERED:
            self.flow.pause_reading()
            self._start(exchange)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        exchange, self._reading = self._reading, None
        self._stage, self._fed = IDLE, 0
        if exchange is None:
            self._turn_away()
        else:
            exchange.complete()
            self._start(exchange)

    def _is_refused(self) -> bool:
        """Whether the worker is too far behind to take a request on. One that waits for others of its own is kept."""
        if self._active is not None or not self.guard.pressure.is_late(self._arrived):
            return False
        self._route = SHEDS.get(self.url.partition(b"?")[0], "")
        return self._route != "" and not self.expect_100_continue

    def _turn_away(self) -> None:
        """Answers 503, at a fraction of what any other answer costs: the bytes are made once a second."""
        pressure = self.guard.pressure
        pressure.too_late += 1
        pressure.refused[self._route, OVERLOADED.status] += 1
        self.transport.write(self.guard.overloaded(self.server_state.default_headers))
        if not self.parser.should_keep_alive() or self.standing_headers()[1]:
            self._end()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _exchange(self) -> Exchange:
        url, version = self.url, self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(NO_HTTP)
        if url.startswith(b"/") and b"?" not in url and b"%" not in url and b"#" not in url:
            raw_path, query = url, b""
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": {},
        }
        keep_alive = version == "1.1" and self.parser.should_keep_alive()
        return Exchange(self, scope, keep_alive=keep_alive, wants_continue=self.expect_100_continue)

    # --- Requests and their answers, one after the other

    def _start(self, exchange: Exchange) -> None:
        """Has a request answered, as soon as the one before is."""
        if exchange is self._active or exchange in self._waiting or exchange.is_answered:
            return
        exchange.arrived = self._arrived
        if self._active is None:
            self._run(exchange)
        else:
            self._waiting.append(exchange)
            self.flow.pause_reading()

    def _run(self, exchange: Exchange) -> None:
        self._active = exchange
        self.guard.pressure.in_hand.add(exchange)
        exchange.scope["segue.arrived"] = exchange.arrived
        exchange.task = task = self.loop.create_task(exchange.run(self.app))
        self.tasks.add(task)

    def answered(self, exchange: Exchange) -> None:
        """What comes after an answer: the next request, or the connection's end."""
        self._active = None
        self.guard.pressure.in_hand.discard(exchange)
        self.guard.pressure.answered += 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._end()
        elif self._waiting:
            following = self._waiting.popleft()
            following.arrived = self.guard.pressure.arrived()  # it waited for its own client's sake
            self._run(following)
        elif self._last_words is not None:
            self._end(self._last_words)
        else:
            self._since = perf_counter()
            self.flow.resume_reading()

    def standing_headers(self) -> tuple[bytes, bool]:
        """The headers that every answer has, and whether they close the connection."""
        return self.guard.standing(self.server_state.default_headers)

    # --- The end

    def _refuse(self, error: ApiError) -> None:
        """Reads no further, and says why after all answers that are due."""
        exchange, self._reading = self._reading, None
        if exchange in self._waiting:
            self._waiting.remove(exchange)
        is_active = exchange is not None and exchange is self._active
        if is_active and exchange.has_begun:
            self.transport.abort()  # the rest of its answer would hang on the rest of its body
        elif is_active:
            self.guard.pressure.refused[OTHER, error.status] += 1
            exchange.fail(error)
        elif self._active is None:
            self._end(error)
        else:
            self._stage, self._last_words = CLOSING, error
        if exchange is not None:
            exchange.leave()

    def _end(self, error: ApiError | None = None) -> None:
        """Closes, after some last words. A client that is still sending is given the time to read them."""
        if error is not None:
            self.guard.pressure.refused[OTHER, error.status] += 1
            self.transport.write(whole(error, self.standing_headers()[0], keep_alive=False))
        if self._stage == IDLE or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._stage, self._since, self._fed = CLOSING, perf_counter(), 0
        self.flow.resume_reading()
        self.transport.write_eof()

    def shutdown(self) -> None:
        """The server ends: no further request, but an answer to each that has come in."""
        if self._active is not None:
            (self._waiting[-1] if self._waiting else self._active).keep_alive = False
        elif self._stage == IDLE:
            self.transport.close()

    def check(self, now: float) -> None:
        """Ends what took too long."""
        limits, seconds = self.guard.limits, now - self._since
        if self._stage == CLOSING and self._active is None:
            if seconds > limits.leaving:
                self.transport.abort()
        elif self.flow.write_paused:
            if seconds > limits.unread:
                self.transport.abort()
        elif self._stage in (HEAD, BODY):
            if self._stage == HEAD and seconds > limits.head and not self.flow.read_paused:
                self._refuse(SLOW_HEAD)
            elif self._stage == BODY and seconds > limits.body and not self.flow.read_paused:
                self._refuse(SLOW_BODY)
        elif self._stage == IDLE and self._active is None and seconds > limits.idle:
            self.transport.close()

    def pause_writing(self) -> None:
        self._since = perf_counter()
        super().pause_writing()
