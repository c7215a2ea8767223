"""Files that are there in full under their names, durably, or not at all, whenever their process is killed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TALLY = b"segue.tally"

Tally = Mapping[str, Any]
"""What was counted: numbers by name, nested; those of disjoint parts add up."""


@contextmanager
def part_writer(target: Path, schema: pa.Schema) -> Iterator["PartFile"]:
    """A file that is there in full under its name, durably, or not at all."""
    forget_drafts(target)
    draft = draft_of(target)
    file = PartFile(draft, schema)
    try:
        yield file
        file.close()
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(target)
    finally:
        file.close()
        draft.unlink(missing_ok=True)


class PartFile:
    """Parquet that is being written; `tally` is stored with it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        texts = [field.name for field in schema if not pa.types.is_floating(field.type)]
        self._file = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts)
        self.tally: Tally = {}

    def write(self, table: pa.Table) -> None:
        self._file.write_table(table)

    def close(self) -> None:
        if self._file.is_open:
            self._file.add_key_value_metadata({TALLY.decode(): json.dumps(self.tally)})
            self._file.close()


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """A file that is there in full, durably, or not at all."""
    draft = draft_of(path)
    try:
        with draft.open("wb") as file:
            file.write(to_text(record))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def drafts(path: Path) -> list[Path]:
    """Those of a file: of this process, and of others that were killed."""
    return list(path.parent.glob(f".{escape(path.name)}.*"))


def forget_drafts(path: Path) -> None:
    for draft in drafts(path):
        draft.unlink(missing_ok=True)


def to_text(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()
