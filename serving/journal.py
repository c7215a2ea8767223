"""Decisions on their way to the log and to their clients: first the log, in one write for all of one turn of the loop.

An answer leaves the process when the kernel has its record: a server that is killed loses only decisions that nobody
was told of. That costs a request no write of its own, and no wait beyond the turn of the loop it is decided in.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from stores.log.decision_log import DecisionRecord, encode
from stores.log.event_log import Log

AT_MOST = 256
"""Records that wait. One more, and they are written at once: a turn of the loop can't pile up any number of them."""

log = structlog.get_logger()


class Journal:
    """Over the log of decisions. For one thread: that of the event loop."""

    def __init__(self, decisions: Log) -> None:
        self._decisions = decisions
        self._records: list[DecisionRecord] = []
        self._then: list[Callable[[], object]] = []

    @property
    def waiting(self) -> int:
        """Records that are to be written."""
        return len(self._records)

    def write(self, record: DecisionRecord) -> None:
        """Puts a record into the log now."""
        self._records.append(record)
        self.flush()

    def keep(self, record: DecisionRecord, then: Callable[[], object]) -> None:
        """Puts a record into the log within this turn of the loop, and calls `then` once it is there.

        Also where the disk refuses it: that is counted and told by the log, and is no reason to leave a client waiting.
        """
        if not self._records:
            asyncio.get_running_loop().call_soon(self.flush)
        self._records.append(record)
        self._then.append(then)
        if len(self._records) >= AT_MOST:
            self.flush()

    def flush(self) -> None:
        """Writes what waits, and calls what waits for it."""
        records, self._records = self._records, []
        then, self._then = self._then, []
        try:
            if records:
                self._decisions.extend(_lines(records))
        except Exception:  # a bug: a log tells of a bad disk by counting
            log.exception("log_failed", records=len(records))
        for call in then:
            try:
                call()
            except Exception:  # a bug: an answer that can't be given must not keep others from theirs
                log.exception("answer_failed")


def _lines(records: Sequence[DecisionRecord]) -> list[bytes]:
    """Without one that can't be written, which is a bug: it must not cost others theirs."""
    lines = []
    for record in records:
        try:
            lines.append(encode(record))
        except Exception:
            log.exception("record_failed", decision_id=record.request.decision_id)
    return lines
