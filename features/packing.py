"""Packed vectors straight from Arrow: what `frames.pack_frame` gives, at the speed of the columns. Not for serving."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import FLOAT32_MAX, MINUTES_FROM, Schema

BLOCK_ROWS = 100_000
"""Rows in memory at a time. More of them make fewer and larger writes to a store."""
MINUTE_US = 60_000_000
START_US = round(MINUTES_FROM * 1_000_000)


def packed_rows(
    parts: Sequence[Path], schema: Schema, start: int = 0, stop: int | None = None
) -> Iterator[tuple[list[str], np.ndarray]]:
    """The users and the packed vectors of a snapshot's rows from `start` up to `stop`, a block at a time.

    Row groups that end before `start` are not read. Raises UserError where a part is damaged or has another schema.
    """
    at = 0
    for part in parts:
        if stop is not None and at >= stop:
            return
        try:
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                rows = file.metadata.num_rows
                if at + rows > start:
                    yield from _blocks(file, schema, max(0, start - at), rows if stop is None else stop - at)
                at += rows
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UserError(f"{part} can't be read ({error}): build the snapshot again.") from None


def _blocks(file: pq.ParquetFile, schema: Schema, start: int, stop: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Of one part; `start` and `stop` count from its first row."""
    counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    ends = np.cumsum(counts)
    first = int(np.searchsorted(ends, start, side="right"))
    groups, at = list(range(first, len(counts))), int(ends[first]) - counts[first]
    for batch in file.iter_batches(BLOCK_ROWS, row_groups=groups, columns=["user_id", *schema.names]):
        begin, end = max(start - at, 0), min(stop - at, batch.num_rows)
        if begin < end:
            block = batch.slice(begin, end - begin)
            yield block.column("user_id").cast(pa.string()).to_pylist(), pack_batch(schema, block)
        at += batch.num_rows
        if at >= stop:
            return


def pack_batch(schema: Schema, batch: pa.RecordBatch) -> np.ndarray:
    """Little-endian float32 of shape (rows, width), equal row by row to `schema.pack`.

    Raises KeyError for a column that is not there, pyarrow.ArrowException for one that can't be of its declared type.
    """
    packed = np.empty((batch.num_rows, schema.width), dtype="<f4")
    for at, spec in enumerate(schema.specs):
        numbers = _numbers(spec, batch.column(spec.name))
        packed[:, at] = np.where(np.abs(numbers) <= FLOAT32_MAX, numbers, np.nan)
    return packed


def _numbers(spec: FeatureSpec, column: pa.Array) -> np.ndarray:
    """float64 of shape (rows,): `schema.encode` for every row, NaN where missing."""
    match spec.type:
        case FeatureType.ENUM:
            return _floats(pc.index_in(column.cast(pa.string()), pa.array(spec.values, pa.string())))
        case FeatureType.SET:
            return _masks(spec, column)
        case FeatureType.TIME:
            zone = getattr(column.type, "tz", None)
            since = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
            minutes = (since.fill_null(0).to_numpy() - START_US) // MINUTE_US
            return np.where(column.is_valid().to_numpy(zero_copy_only=False), minutes, np.nan)
        case FeatureType.BOOL:
            return _floats(column.cast(pa.bool_()))
        case _:
            return _floats(column)


def _floats(column: pa.Array) -> np.ndarray:
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _masks(spec: FeatureSpec, column: pa.Array) -> np.ndarray:
    codes = pc.index_in(pc.list_flatten(column).cast(pa.string()), pa.array(spec.values, pa.string()))
    known = codes.is_valid().to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(column).to_numpy()[known]
    masks = np.zeros(len(column), dtype=np.int64)
    np.bitwise_or.at(masks, rows, np.int64(1) << codes.drop_null().to_numpy().astype(np.int64))
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), masks, np.nan)
