"""HTTP/1.1 as a worker speaks it: uvicorn's protocol over httptools, with a bound on everything that a client does.

uvicorn sets no deadline on a request's head or body, no limit on a head's size, on the requests that wait on one
connection or on the connections; and it answers what is no HTTP in plain text. All of that is here. What a client sends
is never repeated to it.
"""

from typing import Any
from urllib.parse import unquote

import httptools

from serving.errors import ApiError
from serving.http.connection import BODY, CLOSING, HEAD, IDLE, Connection
from serving.http.errand import PATH, Errand
from serving.http.exchange import Exchange
from serving.http.guard import (
    BUFFERED,
    LEFTOVERS,
    LONG_HEAD,
    LONG_REQUEST,
    MAX_HEAD,
    MAX_REQUEST,
    MAX_WAITING,
    NO_HTTP,
    NO_TUNNEL,
    OVERLOADED,
    TOO_MANY,
    Guard,
    Limits,
)
from serving.http.heads import plain
from serving.pressure import Pressure
from serving.schemas import MOST_DIGITS

FIRST_LINE = b"POST %b HTTP/1.1\r\n" % PATH.encode()
SHEDS = {PATH.encode(): "decisions", b"/v1/events": "events"}
"""The routes that are refused where the worker is too far behind, by their names in metrics. All others are cheap, and
say how it is."""


class Refused(Exception):
    """What ends the parsing of a request. A new one each time: one that is raised again keeps all it ever passed."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def protocol(pressure: Pressure, limits: Limits | None = None) -> type["Protocol"]:
    """The class that uvicorn makes a worker's connections of (`Config(http=…)`)."""
    return type("Protocol", (Protocol,), {"guard": Guard(pressure, limits or Limits())})


class Protocol(Connection):
    """A connection that reads requests from its bytes."""

    _is_upgrade = False
    _route = ""

    # --- What a client sends

    def data_received(self, data: bytes) -> None:
        self._fed += len(data)
        if self._stage == CLOSING:
            if self._fed > LEFTOVERS:
                self.transport.abort()
            return
        pressure = self.pressure
        self._arrived = arrived = pressure.arrived()
        if self._stage == IDLE and self._active is None and self._has_short_way:
            found = plain(data, FIRST_LINE)
            if found is not None:
                authorization, deadline, body = found
                self._since, self._fed = arrived, 0
                if pressure.is_late(arrived):
                    self._turn_away("decisions", keep_alive=True)
                else:
                    self._run(Errand(self, arrived, authorization, deadline, body))
                return
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
            self._turn_away(self._route, keep_alive=self.parser.should_keep_alive())
        else:
            exchange.complete()
            self._start(self._errand(exchange) or exchange)

    def _is_refused(self) -> bool:
        """Whether the worker is too far behind to take a request on. One that waits for others of its own is kept."""
        if self._active is not None or not self.pressure.is_late(self._arrived):
            return False
        self._route = SHEDS.get(self.url.partition(b"?")[0], "")
        return self._route != "" and not self.expect_100_continue

    def _turn_away(self, route: str, *, keep_alive: bool) -> None:
        """Answers 503, at a fraction of what any other answer costs: the bytes are made once a second."""
        pressure = self.pressure
        pressure.too_late += 1
        pressure.refused[route, OVERLOADED.status] += 1
        self.transport.write(self.guard.overloaded(self.server_state.default_headers))
        if not keep_alive or self.standing_headers()[1]:
            self._end()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _errand(self, exchange: Exchange) -> Errand | None:
        """The same as an errand: a request for a decision that is whole before anybody was asked to answer it."""
        scope = exchange.scope
        if not self._has_short_way or scope.get("path") != PATH or scope["method"] != "POST":
            return None
        if exchange is self._active or exchange in self._waiting or exchange.is_answered:
            return None
        authorization = deadline = None
        for name, value in exchange.scope["headers"]:  # of a header that comes twice, the first counts
            if name == b"authorization" and authorization is None:
                authorization = value
            elif name == b"segue-deadline" and deadline is None:
                deadline = value
            elif name == b"content-length" and len(value) > MOST_DIGITS:
                return None  # it is refused for that
        return Errand(
            self, self._arrived, authorization, deadline, exchange.body or b"", keep_alive=exchange.keep_alive
        )

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
