"""What a worker grants to its clients, and what it tells those that ask for more."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from serving.errors import TOO_LARGE, ApiError
from serving.http.exchange import whole
from serving.pressure import Pressure

MAX_HEAD = 16 * 1024
"""Bytes of a request's first line and headers."""
MAX_REQUEST = 2 * 1024 * 1024
"""Bytes of a whole request, with all that chunks put around a body. The routes' own limits are far below."""
MAX_WAITING = 64
"""Requests on one connection that wait for the answer to the one before."""
BUFFERED = 64 * 1024
"""A body up to this size is whole before anybody is asked to answer it."""
LEFTOVERS = 256 * 1024
"""Bytes that are still read, and thrown away, after the last answer of a connection: a client that is still sending
would lose that answer, were the connection closed at once."""
SWEEP_EVERY = 1.0

NO_HTTP = ApiError(400, "bad_request", "This is not HTTP/1.1.")
CUT_SHORT = ApiError(400, "cut_short", "The request ended before it was complete.")
NO_TUNNEL = ApiError(405, "method_not_allowed", "This server is no proxy.")
SLOW_HEAD = ApiError(408, "slow_head", "The headers took too long to arrive.")
SLOW_BODY = ApiError(408, "slow_body", "The body took too long to arrive.")
LONG_REQUEST = ApiError(413, TOO_LARGE, "The request is too large.")
TOO_MANY = ApiError(429, "too_many_waiting", f"At most {MAX_WAITING} requests may wait on one connection.")
LONG_HEAD = ApiError(431, "head_too_large", f"The headers are too large: at most {MAX_HEAD // 1024} kB.")
FULL = ApiError(503, "too_many_connections", "The server has too many connections.", headers={"Retry-After": "1"})
OVERLOADED = ApiError(503, "overloaded", "The server is behind. Ask again later.", headers={"Retry-After": "1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, but for the last."""

    head: float = 5.0
    body: float = 10.0
    idle: float = 75.0
    """Longer than load balancers keep their connections (60 s is usual): then it is they who close, and no request is
    on its way while the server does."""
    unread: float = 10.0
    """For a client that does not read its answers."""
    leaving: float = 2.0
    """For a client to close a connection after its last answer."""
    connections: int = 8192
    """That one worker keeps open. Each may bring a request at any moment."""


class Watched(Protocol):
    """A connection."""

    def check(self, now: float) -> None:
        """Ends what took too long."""
        ...


class Guard:
    """What the connections of a worker share: limits, pressure, and one sweep a second for all their deadlines."""

    def __init__(self, pressure: Pressure, limits: Limits) -> None:
        self.pressure, self.limits = pressure, limits
        self._connections: Collection[Watched] = ()
        self._swept = 0.0
        self._is_sweeping = False
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._standing, self._closes, self._overloaded = b"", False, b""

    def watch(self, connections: Collection[Watched], loop: asyncio.AbstractEventLoop) -> None:
        """Sweeps from now on, for as long as there are connections."""
        if not self._is_sweeping:
            self._is_sweeping = True
            self._connections, self._swept = connections, perf_counter()
            loop.call_later(SWEEP_EVERY, self._sweep, loop)

    def standing(self, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bool]:
        """Headers that every answer has, such as the date, ready to send; and whether they close the connection.

        The server makes another list when they change: once a second, and when it drains.
        """
        if headers is not self._headers:
            self._headers = headers
            self._closes = (b"connection", b"close") in headers
            self._standing = b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name != b"connection")
            self._overloaded = whole(OVERLOADED, self._standing, keep_alive=not self._closes)
        return self._standing, self._closes

    def overloaded(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to a request that came too late."""
        self.standing(headers)
        return self._overloaded

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = perf_counter()
        if now - self._swept < 2 * SWEEP_EVERY:  # else it was the worker that took too long, not its clients
            for connection in tuple(self._connections):
                connection.check(now)
        self._swept = now
        self._is_sweeping = bool(self._connections)
        if self._is_sweeping:
            loop.call_later(SWEEP_EVERY, self._sweep, loop)
