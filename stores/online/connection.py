"""One connection to one server: questions go out in their order, and the answers come back in it.

What nobody waits for any more (its caller gave up, or its time has passed) keeps its place in the line: its answer is
taken off the wire when it comes, and dropped, so that no question ever gets another's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from hiredis import Reader
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse

from stores.online.asked import Asked

MOST_UNSENT = 8 * 2**20
"""Bytes that wait for a server to take them. Beyond this it gets no more questions."""
PENDING = object()
"""What the parser gives where an answer has not arrived as a whole."""


class Connection(asyncio.Protocol):
    """`on_lost` is called once, with the reason; what was waiting has been told it by then."""

    def __init__(self, on_lost: Callable[[Exception], None] = lambda why: None) -> None:
        self._on_lost = on_lost
        self._reader = Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=PENDING)
        self._transport: asyncio.Transport | None = None
        self._found: list[Any] = []
        """Answers to the first in line, which waits for more of them."""
        self.waiting: deque[Asked] = deque()
        self.quiet_since = 0.0
        """Since when (monotonic seconds) those in line wait for any answer at all."""
        self.is_full = False
        self.lost: Exception | None = None
        """Why it is no more."""

    def send(self, asked: Sequence[Asked]) -> None:
        """One write. On a connection that is lost, or about to be, they learn that."""
        if self.lost is not None:
            for one in asked:
                one.fail(self.lost)
            return
        if not self.waiting:
            self.quiet_since = monotonic()
        self.waiting.extend(asked)
        if not self._transport.is_closing():
            self._transport.write(b"".join([one.packed for one in asked]))

    def close(self, why: Exception) -> None:
        """At once, without sending what is unsent."""
        if self._transport is not None:
            self._transport.abort()
        self._lose(why)

    # --- What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.set_write_buffer_limits(high=MOST_UNSENT)
        self._transport = transport

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def data_received(self, data: bytes) -> None:
        told: list[Asked] = []
        try:
            self._reader.feed(data)
            self._deal_out(told)
        except Exception as error:  # noqa: BLE001  no Redis: whatever the parser makes of it
            self.close(error)
        for one in told:  # when all is in order here: they may ask again, or close this
            one.wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(error or ConnectionResetError("the server closed the connection"))

    def _deal_out(self, told: list[Asked]) -> None:
        """Gives what has come to the first in line; `told` gets those that have all of theirs."""
        waiting, found, used = self.waiting, self._found, 0
        try:
            found += iter(self._reader.gets, PENDING)
        finally:  # what came before nonsense is as good as ever
            while waiting and used + waiting[0].count <= len(found):
                first = waiting.popleft()
                first.tell(found[used : used + first.count])
                told.append(first)
                used += first.count
            if used:
                del found[:used]
                self.quiet_since = monotonic()
        if not waiting and (found or self._reader.has_data()):
            raise InvalidResponse("an answer to no question")

    def _lose(self, why: Exception) -> None:
        if self.lost is None:
            self.lost = why
            for one in self.waiting:
                one.fail(why)
            self.waiting.clear()
            self._on_lost(why)
