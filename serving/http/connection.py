"""A connection: its requests and their answers one after the other, its deadlines, and its end."""

import asyncio
from collections import deque
from time import perf_counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import ApiError
from serving.http.errand import Errand
from serving.http.exchange import Exchange, whole
from serving.http.guard import CUT_SHORT, FULL, SLOW_BODY, SLOW_HEAD, Guard

OTHER = "other"
"""In metrics, the route of what is answered here."""

IDLE, HEAD, BODY, CLOSING = range(4)
"""What is being read: nothing, a request's head, its body, what a client still sends after its last answer."""


class Connection(HttpToolsProtocol):
    """What holds of any connection; `serving.http.protocol` reads requests from its bytes."""

    __slots__ = (  # what each request touches lies together; uvicorn's own is in a dict of forty
        "_active", "_arrived", "_fed", "_has_ended", "_has_short_way", "_last_words", "_reading", "_since", "_stage",
        "_waiting", "app", "flow", "pressure", "server_state", "standing", "tasks", "transport",
    )  # fmt: skip
    guard: ClassVar[Guard]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.pressure, self.standing = self.guard.pressure, self.guard.standing
        self._stage, self._since = IDLE, perf_counter()
        self._arrived = self._since
        self._fed = 0  # bytes of the request that is being read, or after the last answer
        self._has_ended = False  # the client has no more to say
        self._reading: Exchange | None = None  # not whole yet
        self._active: Exchange | Errand | None = None  # being answered
        self._waiting: deque[Exchange | Errand] = deque()  # for the one before to be answered
        self._last_words: ApiError | None = None  # after all that wait
        self._has_short_way = getattr(self.app, "direct", None) is not None
        self.guard.watch(self.connections, self.loop)  # type: ignore[arg-type]
        if len(self.connections) > self.guard.limits.connections:
            self._end(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        for request in (self._reading, self._active, *self._waiting):
            if request is not None:
                request.leave()
                self.pressure.in_hand.discard(request)
        self._waiting.clear()
        self._reading = self._active = None
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> bool:
        """A client that has no more to say may still want to hear its answers."""
        self._has_ended = True
        if self._stage in (HEAD, BODY):
            self._refuse(CUT_SHORT)
        elif self._active is not None:
            self._newest().keep_alive = False
        return self._active is not None

    # --- Requests and their answers, one after the other

    def _start(self, request: Exchange | Errand) -> None:
        """Has a request answered, as soon as the one before is."""
        if request is self._active or request in self._waiting or request.is_answered:
            return
        request.arrived = self._arrived
        if self._active is not None:
            self._waiting.append(request)
            self.flow.pause_reading()
        else:
            self._run(request)

    def _run(self, request: Exchange | Errand) -> None:
        self._active = request
        self.pressure.in_hand.add(request)
        request.start(self.app)

    def answered(self, request: Exchange | Errand) -> None:
        """What comes after an answer: the next request, or the connection's end."""
        self._active = None
        pressure = self.pressure
        pressure.in_hand.discard(request)
        pressure.answered += 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not request.keep_alive:
            self._end()
        elif self._waiting:
            following = self._waiting.popleft()
            following.arrived = pressure.arrived()  # it waited for its own client's sake
            self._run(following)
        elif self._last_words is not None:
            self._end(self._last_words)
        else:
            self._since = perf_counter()
            if not self.flow.write_paused:
                self.flow.resume_reading()

    def _newest(self) -> Exchange | Errand:
        """The last of the requests that are in hand."""
        return self._waiting[-1] if self._waiting else self._active  # type: ignore[return-value]

    def standing_headers(self) -> tuple[bytes, bool]:
        """The headers that every answer has, and whether they close the connection."""
        return self.standing(self.server_state.default_headers)

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
            self.pressure.refused[OTHER, error.status] += 1
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
            self.pressure.refused[OTHER, error.status] += 1
            self.transport.write(whole(error, self.standing_headers()[0], keep_alive=False))
        if self._stage == IDLE or self._has_ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._stage, self._since, self._fed = CLOSING, perf_counter(), 0
        self.flow.resume_reading()
        self.transport.write_eof()

    def shutdown(self) -> None:
        """The server ends: no further request, but an answer to each that has come in."""
        if self._active is not None:
            self._newest().keep_alive = False
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
        elif self._stage == IDLE:
            if self._active is None and seconds > limits.idle:
                self.transport.close()
        elif self.flow.read_paused:
            return  # it is not the client that keeps the rest waiting
        elif self._stage == HEAD and seconds > limits.head:
            self._refuse(SLOW_HEAD)
        elif self._stage == BODY and seconds > limits.body:
            self._refuse(SLOW_BODY)

    def pause_writing(self) -> None:
        """The client takes no answers, so it is asked for no more requests: else it could fill the memory with them."""
        self._since = perf_counter()
        super().pause_writing()
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._since = perf_counter()
        is_next_due = self._active is None or not self._active.is_whole  # else its answer comes first
        if is_next_due and not self.transport.is_closing():
            self.flow.resume_reading()
