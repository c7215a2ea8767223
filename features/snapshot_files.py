"""Snapshots on disk: `<snapshots>/<id>/part-00000.parquet …, manifest.json`, and the text file `current` with an id.

Whoever reads sees a whole snapshot or none: parts are written beside, and renamed when all of them are there and fulfil
their contract. A part is one row group or several, in the order of user ids, and never in memory as a whole.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.contract import Contract
from features.frames import typed_column
from features.schema import Schema

PART_ROWS = 250_000
BATCH_ROWS = 20_000
MANIFEST, POINTER, CARRIED = "manifest.json", "current", "carried.parquet"
DRAFTS = ".draft-"
"""How the folders are called in which snapshots are made."""

ARROW = {
    FeatureType.BOOL: pa.bool_(),
    FeatureType.INT: pa.int64(),
    FeatureType.FLOAT: pa.float64(),
    FeatureType.ENUM: pa.string(),
    FeatureType.SET: pa.list_(pa.string()),
    FeatureType.TIME: pa.timestamp("ns", "UTC"),
}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk.

    `manifest` holds id, as_of, rows, schema and schema_hash, sources, code_version and parts; and where it was computed
    from events, `built` (how), `left_out` (how much, and why) and `files` (what each file of events held).
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.manifest["id"]

    @cached_property
    def schema(self) -> Schema:
        return Schema.from_json(self.manifest["schema"])

    @property
    def as_of(self) -> float:
        """Epoch seconds."""
        return self.moment.timestamp()

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.manifest["as_of"])

    @property
    def rows(self) -> int:
        return self.manifest["rows"]

    @property
    def carried(self) -> Path:
        """What a later day goes on from, where there is that file: see `features.events_to_features`."""
        return self.path / CARRIED

    def batches(self, size: int = BATCH_ROWS) -> Iterator[pd.DataFrame]:
        """`user_id` and the features, a bounded number of rows at a time."""
        for part in self.manifest["parts"]:
            with pq.ParquetFile(self.path / part) as file:
                for batch in file.iter_batches(size):
                    yield self._typed(batch.to_pandas())

    def frame(self) -> pd.DataFrame:
        """All rows at once."""
        return pd.concat(list(self.batches(PART_ROWS)), ignore_index=True)

    def _typed(self, raw: pd.DataFrame) -> pd.DataFrame:
        columns = {spec.name: typed_column(spec, raw[spec.name]) for spec in self.schema.specs}
        return pd.DataFrame({"user_id": raw["user_id"].astype("string"), **columns})


def arrow_schema(specs: Iterable[FeatureSpec]) -> pa.Schema:
    return pa.schema([("user_id", pa.string()), *((spec.name, ARROW[spec.type]) for spec in specs)])


def read_snapshot(path: Path) -> Snapshot:
    """Raises UserError when the folder holds no complete snapshot, or parts of another schema than its manifest's."""
    if not (path / MANIFEST).is_file():
        raise UserError(
            f"{path} holds no readable snapshot (there is no {MANIFEST} in it): name one that is there, "
            "or run `segue features build`."
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        snapshot = Snapshot(path, manifest)
        columns = arrow_schema(snapshot.schema.specs)
        footers = [pq.read_metadata(path / part) for part in manifest["parts"]]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path} holds no readable snapshot ({error}): run `segue features build`.") from None
    rows = sum(footer.num_rows for footer in footers)
    if rows != manifest["rows"]:
        raise UserError(f"{path} has {rows} rows where its manifest says {manifest['rows']}: build it again.")
    for part, footer in zip(manifest["parts"], footers, strict=True):
        if apart := _apart(columns, footer.schema.to_arrow_schema()):
            raise UserError(f"{path / part} is of another schema than its manifest: {apart}. Build it again.")
    return snapshot


def whole_snapshot(path: Path) -> Snapshot | None:
    """The snapshot in a folder; None where there is none, or one that `read_snapshot` refuses."""
    try:
        return read_snapshot(path)
    except UserError:
        return None


def _apart(wanted: pa.Schema, found: pa.Schema) -> str | None:
    """How the columns of a part differ from what they have to be, if they do."""
    for column in wanted:
        if column.name not in found.names:
            return f"it lacks the column {column.name}"
        if (kind := found.field(column.name).type) != column.type:
            return f"{column.name} is {kind} there, and not {column.type}"
    return None


def current(snapshots: Path) -> Snapshot:
    """The snapshot that `current` names. Raises UserError when there is none."""
    pointer = snapshots / POINTER
    if not pointer.is_file():
        raise UserError(f"There is no feature snapshot in {snapshots}: run `segue features build` first.")
    return read_snapshot(snapshots / pointer.read_text().strip())


def set_current(snapshots: Path, snapshot: Snapshot) -> None:
    pointer = snapshots / f".{POINTER}.{os.getpid()}"
    pointer.write_text(snapshot.id + "\n")
    pointer.replace(snapshots / POINTER)


@contextmanager
def drafted(snapshots: Path, id: str) -> Iterator[Path]:
    """A folder beside, which takes the snapshot's name at the end, in place of one that had it; nothing if it fails."""
    with _workplace(snapshots) as folder:
        final, draft, old = snapshots / id, folder / "new", folder / "old"
        draft.mkdir()
        yield draft
        with _alone(snapshots):
            if final.exists():
                final.rename(old)
            draft.rename(final)


@contextmanager
def _workplace(snapshots: Path) -> Iterator[Path]:
    """A folder of one's own, locked as long as its process lives. What killed processes left is removed before."""
    snapshots.mkdir(parents=True, exist_ok=True)
    with _alone(snapshots):  # else one that was just made, and isn't locked yet, would look left behind
        for left in snapshots.glob(f"{DRAFTS}*"):
            if (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        folder = Path(mkdtemp(prefix=DRAFTS, dir=snapshots))
        lock = _locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _alone(snapshots: Path) -> Iterator[None]:
    """Nobody else makes, renames or removes a folder of these snapshots for this moment."""
    handle = os.open(snapshots, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle on a folder that nobody else has, until it is closed or the process ends; None where somebody has."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # its process has just ended
        return None
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _writer(file: Path, schema: Schema, columns: pa.Schema) -> pq.ParquetWriter:
    """Only texts of few values are worth a dictionary; the rest is smaller and sooner written without."""
    texts = [spec.name for spec in schema.specs if spec.type in (FeatureType.ENUM, FeatureType.SET)]
    return pq.ParquetWriter(file, columns, compression="zstd", use_dictionary=texts, write_page_checksum=True)


def write_parts(folder: Path, schema: Schema, batches: Iterable[pa.RecordBatch]) -> tuple[list[str], int]:
    """The names of the parts, and how many rows they hold. Batches are in the order of their user ids.

    Raises UserError with the first value that breaks the contract, and for a snapshot of nobody.
    """
    contract = Contract(schema)
    names: list[str] = []
    writer: pq.ParquetWriter | None = None
    try:
        for batch in batches:
            contract.check(batch)
            if writer is None or contract.rows > PART_ROWS * len(names):
                if writer:
                    writer.close()
                names.append(f"part-{len(names):05d}.parquet")
                writer = _writer(folder / names[-1], schema, batch.schema)
            writer.write_batch(batch)
    finally:
        if writer:
            writer.close()
    contract.check_end()
    return names, contract.rows


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
