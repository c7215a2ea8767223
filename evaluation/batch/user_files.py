"""Files of users, read and checked row by row: CSV, Parquet, or plain text with one id on a line.

Every column that the catalog declares `from: context` is the context of that user's request, by the same rules as the
API's. Empty lines are passed over; a row without an id is a mistake.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from features.context import ContextError, ContextReader

USER, LINE, SENT, KNOWN = "user_id", "line", "sent", "known"
STAGED = pa.schema([(LINE, pa.int64()), (USER, pa.string()), (SENT, pa.string())])
"""The line (of Parquet: the row, from 1), the id, and the context as JSON."""
STAGE_ROWS = 50_000
MAX_ID = 256

Rows = Iterator[tuple[int, Mapping[str, Any]]]
"""The line of each row, and its cells by column."""


def fingerprint(file: Path) -> str:
    """sha256 of a file. Raises UserError where there is none."""
    try:
        with file.open("rb") as stream:
            digest = sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(
            f"{file} can't be read ({error.strerror}): name a CSV, Parquet or text file of users."
        ) from None
    return digest.hexdigest()


def stage(file: Path, catalog: Catalog, target: Path) -> tuple[str, ...]:
    """Checks a file row by row and writes it as Parquet (STAGED). Returns the columns that nothing reads.

    Raises UserError, naming the line, for a file without ids, or with a context that the API would refuse.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".txt": _text}
    if file.suffix not in readers:
        raise UserError(f"{file} is of no kind that is known: users come as .csv, .parquet or .txt (one id on a line).")
    context = {spec.name: spec for spec in catalog.features.values() if spec.from_context}
    names, rows = readers[file.suffix](file)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file} has several columns of one name: {', '.join(twice)}.")
    if USER not in names:
        joined = len(names) == 1 and any(mark in names[0] for mark in ";\t|")
        guess = "Put commas between the columns." if joined else did_you_mean(USER, names)
        raise UserError(f"{file} has no column {USER}: it has {', '.join(names) or 'none'}. {guess}".rstrip())
    written = 0
    with pq.ParquetWriter(target, STAGED) as out:
        for block in _blocks(_checked(file, catalog, context, rows)):
            out.write_batch(pa.RecordBatch.from_pylist(block, STAGED))
            written += len(block)
    if not written:
        raise UserError(f"{file} holds no user.")
    return tuple(name for name in names if name != USER and name not in context)


def _checked(file: Path, catalog: Catalog, context: Mapping[str, FeatureSpec], rows: Rows) -> Iterator[dict[str, Any]]:
    """Each row as it is staged: an id that can be, and a context that the API would take."""
    place = "row" if file.suffix == ".parquet" else "line"
    reader = ContextReader(catalog)
    for line, row in rows:
        user = row.get(USER)
        if user is None or not str(user).strip():
            raise UserError(f"{file}, {place} {line}: there is no {USER}. Remove the row, or fill it in.")
        if type(user) not in (str, int):
            kind = type(user).__name__
            raise UserError(f"{file}, {place} {line}: the {USER} is of type {kind}: write texts or whole numbers.")
        user = str(user)
        if len(user) > MAX_ID:
            raise UserError(f"{file}, {place} {line}: the {USER} is longer than {MAX_ID} characters.")
        cells = {name: row.get(name) for name in context}
        sent = {name: _said(context[name], cell) for name, cell in cells.items() if not _is_empty(cell)}
        try:
            reader.read(sent)
        except ContextError as error:
            raise UserError(f"{file}, {place} {line}: {error}") from None
        yield {LINE: line, USER: user, SENT: json.dumps(sent) if sent else None}


def _is_empty(cell: object) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and cell != cell)


def _said(spec: FeatureSpec, cell: object) -> object:
    """A cell as JSON would have it. Text that is nothing of the declared type stays text, which is refused later."""
    if isinstance(cell, datetime):
        return cell.isoformat()
    if spec.type is FeatureType.INT and isinstance(cell, float) and cell.is_integer():
        return int(cell)  # as pandas writes whole numbers where one is missing
    if not isinstance(cell, str):
        return cell
    match spec.type:
        case FeatureType.BOOL:
            return {"true": True, "false": False}.get(cell.strip().lower(), cell)
        case FeatureType.INT:
            return _number(int, cell)
        case FeatureType.FLOAT | FeatureType.TIME:
            return _number(float, cell)
        case FeatureType.SET:
            return [member.strip() for member in cell.split("|") if member.strip()]
    return cell


def _number(kind: Callable[[str], float], cell: str) -> float | str:
    try:
        number = kind(cell)
    except ValueError:
        return cell
    return number if isfinite(number) else cell


def _csv(file: Path) -> tuple[Sequence[str], Rows]:
    stream = file.open(newline="", encoding="utf-8-sig")
    reader = csv.DictReader(stream, strict=True)

    def rows() -> Rows:
        with stream, _readable(file):
            for row in reader:
                if row.get(None) or None in row.values():
                    raise UserError(f"{file}, line {reader.line_num}: it has not as many cells as the header.")
                yield reader.line_num, row

    with _readable(file):
        return tuple(reader.fieldnames or ()), rows()


def _text(file: Path) -> tuple[Sequence[str], Rows]:
    def rows() -> Rows:
        with file.open(encoding="utf-8-sig") as stream, _readable(file):
            for line, text in enumerate(stream, 1):
                if text.strip() and (line, text.strip()) != (1, USER):  # that is a header
                    yield line, {USER: text.strip()}

    return (USER,), rows()


def _parquet(file: Path) -> tuple[Sequence[str], Rows]:
    def rows() -> Rows:
        with _readable(file), pq.ParquetFile(file) as stream:
            number = 0
            for batch in stream.iter_batches(STAGE_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row

    with _readable(file):
        return tuple(pq.read_schema(file).names), rows()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"{file} can't be read: {error}.") from None


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while block := list(islice(rows, STAGE_ROWS)):
        yield block
