"""The compacted days of a log: Parquet, a folder per day, and the manifest that says which files count.

    logs/decisions/…jsonl                                          the segments (see `event_log`)
    logs/tables/decisions/_manifest.json                           which parts there are, and which segments are in them
    logs/tables/decisions/day=2026-11-22/part-00000007-000.parquet lines of that day, by time; the number is the
                                                                   generation of the manifest that brought it
    logs/tables/decisions/day=__HIVE_DEFAULT_PARTITION__/…         lines that nobody can read, kept all the same

A new manifest is what makes a compaction happen: before it nothing has changed, after it the segments named in it
count no more, whether they are still there or not. Whoever reads takes the manifest's word.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import BinaryIO

import msgspec

from decisioning.errors import UserError
from stores.log.segments import opened, segments

MANIFEST = "_manifest.json"
"""Parquet readers pass over names that begin so."""
NO_DAY = "__HIVE_DEFAULT_PARTITION__"
"""What Parquet readers take for a missing value in a folder's name."""
BATCH_LINES = 1024


class PartFile(msgspec.Struct, frozen=True):
    """One Parquet file of a day."""

    day: date | None
    """None for lines that nobody can read."""
    name: str
    rows: int
    size: int
    """Bytes of its lines."""
    first: float | None
    last: float | None
    """Epoch seconds of its first and last line."""
    written: float
    """When it was written."""

    @property
    def path(self) -> str:
        """Below the table's folder."""
        return f"day={self.day or NO_DAY}/{self.name}"


class Table(msgspec.Struct, frozen=True):
    """What the manifest says. Parts stand in the order of time; those without a day come first."""

    generation: int = 0
    parts: tuple[PartFile, ...] = ()
    absorbed: frozenset[str] = frozenset()
    """Names of the segments whose lines are in the parts."""


_decoder = msgspec.json.Decoder(Table)


def table_folder(log: Path) -> Path:
    """Where the compacted days of the log in a folder are."""
    return log.parent / "tables" / log.name


def read_table(log: Path) -> Table:
    """Raises UserError for a manifest that is damaged: it was not written by a compaction."""
    file = table_folder(log) / MANIFEST
    try:
        return _decoder.decode(file.read_bytes())
    except FileNotFoundError:
        return Table()
    except msgspec.MsgspecError as error:
        raise UserError(f"{file} is damaged ({error}): restore it and the folders beside it from a backup.") from None


def write_table(log: Path, table: Table) -> None:
    """In one step, and durable when it returns."""
    file = table_folder(log) / MANIFEST
    fresh = draft(file)
    with fresh.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(table), indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
    sync_folder(file.parent)


def draft(path: Path) -> Path:
    """The name of a part until it is whole; no pattern for Parquet files matches it."""
    return path.with_name(f".{path.name}.draft")


def sync_folder(folder: Path) -> None:
    """Makes names in a folder durable."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def log_files(log: Path) -> tuple[Table, list[Path]]:
    """The compacted days, and the segments that are not among them: every line in exactly one of the two.

    A compaction that ends between the two looks would remove segments that the older manifest still counts on.
    """
    while True:
        table = read_table(log)
        live = [path for path in segments(log) if path.name not in table.absorbed]
        if read_table(log).generation == table.generation:
            return table, live


def row_groups(path: Path) -> list[tuple[int, int]]:
    """Rows, and bytes of lines, of each row group of a part."""
    from pyarrow.parquet import read_metadata

    try:
        found = read_metadata(path)
    except FileNotFoundError:
        raise gone(path) from None
    line = found.num_columns - 1
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    return [(group.num_rows, group.column(line).total_uncompressed_size) for group in groups]


def group_lines(path: Path, group: int | None = None) -> Iterator[bytes]:
    """The lines of one row group, or of a whole part, a bounded number at a time."""
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except FileNotFoundError:
        raise gone(path) from None
    with file:
        groups = range(file.num_row_groups) if group is None else [group]
        for one in groups:
            for batch in file.iter_batches(BATCH_LINES, row_groups=[one], columns=["line"], use_threads=False):
                yield from batch.column(0).to_pylist()


def opened_segment(path: Path) -> BinaryIO:
    """Raises UserError where it was compacted since it was listed."""
    try:
        return opened(path)
    except FileNotFoundError:
        raise gone(path) from None


def gone(path: Path) -> UserError:
    """What is said of a file that was there when its log was listed."""
    return UserError(f"The log was compacted or pruned while it was being read ({path.name} is gone): run this again.")


def unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
