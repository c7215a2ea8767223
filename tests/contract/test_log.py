"""What every log must do."""

from collections.abc import Callable

import pytest

from stores.log.event_log import EventLog, Log, MemoryLog
from stores.log.reader import read


@pytest.fixture(params=["memory", "folder"])
def log_and_lines(request, tmp_path) -> tuple[Log, Callable[[], list[bytes]]]:
    if request.param == "memory":
        log = MemoryLog()
        return log, lambda: log.lines
    return EventLog(tmp_path), lambda: list(read(tmp_path))


def test_lines_are_read_back_in_the_order_written(log_and_lines):
    log, lines = log_and_lines
    written = [f'{{"n":{number}}}'.encode() for number in range(100)]
    for line in written:
        log.append(line)
    assert lines() == written
    log.close()
    assert lines() == written
    assert log.dropped == 0


def test_closing_twice_is_fine(log_and_lines):
    log, _ = log_and_lines
    log.close()
    log.close()
