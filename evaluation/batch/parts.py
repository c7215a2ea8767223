"""Parquet files of users in parts: row groups that one process reads at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import UserError

PART_ROWS = 100_000
"""Row groups that are smaller together make one part."""
BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """Some row groups of a file: [first, last). `number` counts the parts of a run, from 0."""

    number: int
    path: Path
    first: int
    last: int
    rows: int

    @property
    def name(self) -> str:
        """Of the file of results."""
        return f"part-{self.number:05d}.parquet"


def parts_of(files: Sequence[Path], most: int = PART_ROWS) -> tuple[Part, ...]:
    """The files in parts of whole row groups, of up to `most` rows where the row groups allow it."""
    found: list[Part] = []
    for path in files:
        metadata = pq.read_metadata(path)
        first = rows = 0
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).num_rows
            if rows and rows + size > most:
                found.append(Part(len(found), path, first, group, rows))
                first, rows = group, 0
            rows += size
        if rows:
            found.append(Part(len(found), path, first, metadata.num_row_groups, rows))
    return tuple(found)


def batches(part: Part, columns: Sequence[str], size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a part in their order, `size` at a time. Raises UserError for a file that is damaged or gone."""
    try:
        with pq.ParquetFile(part.path) as file:
            yield from file.iter_batches(size, row_groups=range(part.first, part.last), columns=list(columns))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{part.path} can't be read ({error}): build the snapshot again, then try again.") from None
