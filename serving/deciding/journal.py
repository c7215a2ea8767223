"""Decisions on their way to the log and to their clients: first the log, in one write for all of one turn of the loop.

An answer leaves the process when the kernel has its record: a server that is killed loses only decisions that nobody
was told of. That costs a request no write of its own, and no wait beyond the turn of the loop it is decided in.
"""

import asyncio
from collections.abc import Callable

import structlog

from stores.log.decision_log import DecisionRecord, encode
from stores.log.event_log import Log

AT_MOST = 256
"""Records that wait. One more, and they are written at once: a turn of the loop can't pile up any number of them."""

FAILED = "record_failed"
"""A record that can't be written is a bug: it must not cost others theirs."""

log = structlog.get_logger()


class Journal:
    """Over the log of decisions. For one thread: that of the event loop."""

    def __init__(self, decisions: Log) -> None:
        self._decisions = decisions
        self._lines: list[bytes] = []
        self._then: list[Callable[[], object]] = []

    @property
    def waiting(self) -> int:
        """Records that are to be written."""
        return len(self._lines)

    def write(self, record: DecisionRecord) -> None:
        """Puts a record into the log now."""
        try:
            self._lines.append(encode(record))
        except Exception:
            log.exception(FAILED, decision_id=record.request.decision_id)
        self.flush()

    def keep(self, record: DecisionRecord, then: Callable[[], object]) -> None:
        """Puts a record into the log within this turn of the loop, and calls `then` once it is there.

        Also where the disk refuses it: that is counted and told by the log, and is no reason to leave a client waiting.
        """
        if not self._then:
            asyncio.get_running_loop().call_soon(self.flush)
        self._then.append(then)
        try:
            self._lines.append(encode(record))  # now that all it holds has just been looked at
        except Exception:
            log.exception(FAILED, decision_id=record.request.decision_id)
        if len(self._then) >= AT_MOST:
            self.flush()

    def flush(self) -> None:
        """Writes what waits, and calls what waits for it."""
        lines, self._lines = self._lines, []
        then, self._then = self._then, []
        try:
            if lines:
                self._decisions.extend(lines)
        except Exception:  # a bug: a log tells of a bad disk by counting
            log.exception("log_failed", records=len(lines))
        for call in then:
            try:
                call()
            except Exception:  # a bug: an answer that can't be given must not keep others from theirs
                log.exception("answer_failed")
