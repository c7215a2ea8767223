"""The lines of one part of a batch: beside the decision log while they are written, in it once the part is done.

The results of a part are what makes it happen. A kill before them leaves lines that nobody reads, and the part is
decided again. A kill after them leaves lines that want nothing but their name, which `settle` gives them. So whatever
was once in the log is never decided anew, and may be compacted and shipped at once.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from evaluation.batch.desk import Answer
from evaluation.batch.whole_files import draft_of, drafts, forget_drafts
from stores.log.decision_log import DecisionRecord, encode


class PartLog:
    """Takes answers, and keeps those that are new."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    def write(self, answers: list[Answer]) -> None:
        if self._file:
            self._file.writelines(map(_line, (one for one in answers if one.is_new)))

    def sync(self) -> None:
        """All of it is on the disk when this returns: to be called before the part's results get their name."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def part_log(segment: Path | None) -> Iterator[PartLog]:
    """`segment`: where the lines are when this ends; None to leave none."""
    if segment is None:
        yield PartLog(None)
        return
    segment.parent.mkdir(parents=True, exist_ok=True)
    forget_drafts(segment)
    draft = draft_of(segment)
    try:
        with draft.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # what is being written is left alone by `segue erase`
            yield PartLog(file)
            file.flush()
            settle(segment)
    finally:
        draft.unlink(missing_ok=True)


def settle(segment: Path) -> None:
    """Gives the lines of a part that is done their name; they may have it already, or there are none."""
    for draft in drafts(segment):
        if draft.stat().st_size:
            draft.replace(segment)
        else:
            draft.unlink()


def _line(answer: Answer) -> bytes:
    return encode(DecisionRecord(answer.visit.request, answer.facts, answer.decision)) + b"\n"
