"""Snapshots: the features of all users as of one moment, in Parquet with a manifest, checked before it is one.

`<snapshots>/<id>/part-00000.parquet …, manifest.json`, and the text file `<snapshots>/current` with the id. The id
follows from the moment, the schema, the sources and the code, so that building the same snapshot twice changes nothing.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import UserError
from decisioning.identity import user_key
from features.compute import compute
from features.contract import check_frame
from features.definitions import FEATURES
from features.frames import pack_frame, typed_column
from features.schema import Schema

PART_ROWS = 250_000
BATCH_ROWS = 20_000
KEYED = "keyed"
"""What `dataset.json` says of users whose ids are hashes already: see `training.importers.log`."""
CODE = ("definitions.py", "feature.py", "declared/*.py", "portable.py", "compute.py")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk. `manifest` holds id, as_of, rows, schema, sources, code_version, parts."""

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
        return datetime.fromisoformat(self.manifest["as_of"]).timestamp()

    @property
    def rows(self) -> int:
        return self.manifest["rows"]

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


def build_snapshot(
    data: Path,
    snapshots: Path,
    *,
    schema: Schema | None = None,
    as_of: datetime | None = None,
    make_current: bool = True,
) -> Snapshot:
    """The features of every user in the data folder; it becomes the current snapshot, unless one of the past is wanted.

    With events they are computed as of `as_of` (by default the end of the data); imported facts give each user's latest
    row not after it. `schema` is what the catalog asks for (by default all that the dataset has). Raises UserError when
    there is no data, a feature is not in it, or the result breaks the contract; `current` stays what it was then.
    """
    dataset = _dataset(data)
    if dataset.get("users") == KEYED:
        raise UserError(
            f"{data} holds our own log, whose users are hashes already: features are built from the users' own ids. "
            "Import the history that has them, or use another --home for one of the two."
        )
    has_events = (data / "events.parquet").is_file() and (data / "users.parquet").is_file()
    schema = _chosen(schema, Schema.from_json(dataset["features"]))
    if has_events:
        moment = pd.Timestamp(as_of or dataset["until"])
        frame = _from_events(data, moment)
        sources = ("users", "events")
    else:
        frame, moment = _from_facts(data, pd.Timestamp(as_of) if as_of else None)
        sources = ("facts", "decisions")
    frame = frame[["user_id", *schema.names]]
    check_frame(schema, frame)
    manifest = _manifest(schema, moment, frame, {name: _fingerprint(data / f"{name}.parquet") for name in sources})
    return _write(snapshots, manifest, frame, make_current=make_current)


def read_snapshot(path: Path) -> Snapshot:
    """Raises UserError when the folder holds no complete snapshot."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        rows = sum(pq.read_metadata(path / part).num_rows for part in manifest["parts"])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path} holds no readable snapshot ({error}): run `segue features build`.") from None
    if rows != manifest["rows"]:
        raise UserError(f"{path} has {rows} rows where its manifest says {manifest['rows']}: build it again.")
    return Snapshot(path, manifest)


def current(snapshots: Path) -> Snapshot:
    """The snapshot that `current` names. Raises UserError when there is none."""
    pointer = snapshots / "current"
    if not pointer.is_file():
        raise UserError(f"There is no feature snapshot in {snapshots}: run `segue features build` first.")
    return read_snapshot(snapshots / pointer.read_text().strip())


def snapshot_rows(snapshot: Snapshot, secret: bytes) -> Iterator[tuple[str, bytes]]:
    """(user key, packed vector) of every user, for publishing: packed a batch at a time."""
    width = 4 * snapshot.schema.width
    for batch in snapshot.batches():
        packed = pack_frame(snapshot.schema, batch).tobytes()
        for row, user_id in enumerate(batch["user_id"]):
            yield user_key(secret, user_id), packed[row * width : (row + 1) * width]


def _dataset(data: Path) -> Mapping[str, Any]:
    try:
        return json.loads((data / "dataset.json").read_text())
    except FileNotFoundError:
        raise UserError(f"There is no dataset in {data}: run `segue data simulate` or import one first.") from None
    except ValueError:
        raise UserError(f"{data / 'dataset.json'} is no valid JSON: import the data again.") from None


def _chosen(wanted: Schema | None, have: Schema) -> Schema:
    """What is wanted, as far as the dataset can give it in the same shape."""
    if wanted is None:
        return have
    known = {spec.name: (spec.type, spec.values) for spec in have.specs}
    for spec in wanted.specs:
        if spec.name not in known:
            raise UserError(
                f"The catalog declares the feature {spec.name}, which the data doesn't have: remove it from "
                "features.yaml, or mark it `from: context` if clients send it."
            )
        if known[spec.name][0] is not spec.type:
            raise UserError(f"The catalog declares {spec.name} as {spec.type}, the data as {known[spec.name][0]}.")
    return wanted


def _from_events(data: Path, moment: pd.Timestamp) -> pd.DataFrame:
    users, events = (pq.read_table(data / f"{name}.parquet") for name in ("users", "events"))
    signed_up = users.filter(pa.compute.less(users["signup_at"], pa.scalar(moment, users["signup_at"].type)))
    observations = pd.DataFrame({"user_id": signed_up["user_id"].to_pandas(), "as_of": moment})
    return compute(users, events, observations, FEATURES)


def _from_facts(data: Path, until: pd.Timestamp | None) -> tuple[pd.DataFrame, pd.Timestamp]:
    """Each user's latest facts, and the latest moment among them."""
    facts = pd.read_parquet(data / "facts.parquet")
    if "decision_id" in facts.columns:
        decisions = pd.read_parquet(data / "decisions.parquet", columns=["decision_id", "user_id", "at"])
        facts = facts.drop(columns=["user_id", "as_of"], errors="ignore").merge(decisions, on="decision_id")
        facts = facts.rename(columns={"at": "as_of"})
    if until is not None:
        facts = facts[facts["as_of"] <= until]
    if facts.empty:
        raise UserError(f"No facts in {data} are from {until} or before: choose a later moment.")
    latest = facts.sort_values("as_of", kind="stable").drop_duplicates("user_id", keep="last")
    return latest.sort_values("user_id").reset_index(drop=True), until or facts["as_of"].max()


def _manifest(schema: Schema, moment: pd.Timestamp, frame: pd.DataFrame, sources: Mapping[str, str]) -> dict[str, Any]:
    as_of = moment.to_pydatetime(warn=False).astimezone(UTC)
    files = [file for pattern in CODE for file in sorted(Path(__file__).parent.glob(pattern))]
    code = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    told = {"as_of": as_of.isoformat(), "schema_hash": schema.hash, "sources": dict(sources), "code_version": code}
    mark = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return {"id": f"{as_of:%Y%m%dT%H%M%SZ}-{mark}", **told, "rows": len(frame), "schema": schema.to_json()}


def _fingerprint(file: Path) -> str:
    with file.open("rb") as stream:
        digest = sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(snapshots: Path, manifest: dict[str, Any], frame: pd.DataFrame, *, make_current: bool) -> Snapshot:
    """Parts and manifest in a folder beside, then one rename, then the pointer where it is wanted."""
    starts = range(0, len(frame), PART_ROWS)
    manifest["parts"] = [f"part-{number:05d}.parquet" for number in range(len(starts))]
    final, draft = snapshots / manifest["id"], snapshots / f".{manifest['id']}.{os.getpid()}"
    if not final.exists():
        draft.mkdir(parents=True)
        try:
            for start, part in zip(starts, manifest["parts"], strict=True):
                frame.iloc[start : start + PART_ROWS].to_parquet(draft / part, index=False)
            (draft / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
            draft.rename(final)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    snapshot = read_snapshot(final)
    if make_current:
        pointer = snapshots / f".current.{os.getpid()}"
        pointer.write_text(manifest["id"] + "\n")
        pointer.replace(snapshots / "current")
    return snapshot
