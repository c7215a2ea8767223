"""Parquet files of users in parts: rows that one process reads, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import UserError

PART_ROWS = 50_000
BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file: [start, stop). `number` counts the parts of a run, from 0."""

    number: int
    path: Path
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        """Of the file of results."""
        return f"part-{self.number:05d}.parquet"


def parts_of(files: Sequence[Path], most: int = PART_ROWS) -> tuple[Part, ...]:
    """The files in parts of up to `most` rows, whatever their row groups."""
    found: list[Part] = []
    for path in files:
        rows = pq.read_metadata(path).num_rows
        found += [
            Part(len(found) + n, path, start, min(start + most, rows)) for n, start in enumerate(range(0, rows, most))
        ]
    return tuple(found)


def batches(part: Part, columns: Sequence[str], size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a part in their order, up to `size` at a time; row groups beside it are not read.

    Raises UserError for a file that is damaged or gone.
    """
    try:
        with pq.ParquetFile(part.path) as file:
            at = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if at < part.stop and part.start < at + rows:
                    found = file.iter_batches(size, row_groups=[group], columns=list(columns))
                    yield from _between(found, part.start - at, part.stop - at)
                at += rows
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{part.path} can't be read ({error}): build the snapshot again, then try again.") from None


def _between(found: Iterator[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """What lies between two rows, which count from the first of the batches and may lie outside of them."""
    at = 0
    for batch in found:
        first, last = max(start - at, 0), min(stop - at, batch.num_rows)
        if first < last:
            yield batch.slice(first, last - first)
        at += batch.num_rows
        if at >= stop:
            return
