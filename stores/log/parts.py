"""Writing the lines of one day as Parquet: parts of bounded size, of row groups that fit in memory."""

import os
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from stores.log.columns import LINE, Kind
from stores.log.table import NO_DAY, PartFile, draft

GROUP_BYTES = 16 * 2**20
"""Bytes of lines in a row group: what a reader holds at a time."""
PART_BYTES = 2**30
"""Bytes of lines in a file."""
DISTINCT = (LINE, "decision_id", "event_id", "user")
"""Columns in which hardly a value comes twice, so that a dictionary only costs."""


class PartWriter:
    """Takes the lines of a day in order. Everything is a draft: see `log_table.draft`."""

    def __init__(self, folder: Path, kind: Kind, day: date | None, generation: int, now: float) -> None:
        self._folder = folder / f"day={day or NO_DAY}"
        self._kind, self._day, self._generation, self._now = kind, day, generation, now
        self._parts: list[PartFile] = []
        self._file: pq.ParquetWriter | None = None
        self._lines: list[bytes] = []
        self._held = 0
        self._start_part()

    def _start_part(self) -> None:
        self._rows = self._size = 0
        self._first: float | None = None
        self._last: float | None = None

    @property
    def _name(self) -> str:
        return f"part-{self._generation:08d}-{len(self._parts):03d}.parquet"

    def add(self, line: bytes, at: float | None) -> None:
        if self._rows == 0:
            self._first = at
        self._last = at
        self._rows += 1
        self._size += len(line)
        self._held += len(line)
        self._lines.append(line)
        if self._held >= GROUP_BYTES:
            self._flush()
            if self._size >= PART_BYTES:
                self._end_part()

    def close(self) -> list[PartFile]:
        """The parts; none where there was no line."""
        self._end_part()
        return self._parts

    def _flush(self) -> None:
        if not self._lines:
            return
        if self._file is None:
            self._folder.mkdir(exist_ok=True)
            plain = [name for name in self._kind.schema.names if name not in DISTINCT]
            self._file = pq.ParquetWriter(
                draft(self._folder / self._name),
                self._kind.schema,
                compression="zstd",
                use_dictionary=plain,
                write_statistics=[name for name in self._kind.schema.names if name != LINE],
            )
        self._file.write_table(self._kind.table(self._lines))
        self._lines, self._held = [], 0

    def _end_part(self) -> None:
        self._flush()
        if self._file is None:
            return
        self._file.close()
        with draft(self._folder / self._name).open("rb+") as file:
            os.fsync(file.fileno())
        self._parts.append(PartFile(self._day, self._name, self._rows, self._size, self._first, self._last, self._now))
        self._file = None
        self._start_part()
