"""Building snapshots: the features of all users as of one moment, checked before they are one.

How they lie on disk is told in `snapshot_files`. A snapshot's id follows from the moment, the schema, the sources and
the code, so that building the same snapshot twice changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from decisioning.errors import UserError
from decisioning.identity import user_key
from features.definitions import SCHEMA
from features.event_snapshots import from_events, identity
from features.frames import pack_frame, read_table, typed_column
from features.schema import Schema
from features.snapshot_files import (
    BATCH_ROWS,
    PART_ROWS,
    Snapshot,
    arrow_schema,
    current,
    drafted,
    read_snapshot,
    set_current,
    whole_snapshot,
    write_manifest,
    write_parts,
)
from features.source_files import fingerprint
from features.sources import has_events, start_of, utc

__all__ = [
    "BATCH_ROWS",
    "KEYED",
    "PART_ROWS",
    "Snapshot",
    "build_days",
    "build_snapshot",
    "current",
    "read_dataset",
    "read_snapshot",
    "snapshot_rows",
]

KEYED = "keyed"
"""What `dataset.json` says of users whose ids are hashes already: see `training.importers.log`."""


def build_snapshot(
    data: Path,
    snapshots: Path,
    *,
    schema: Schema | None = None,
    as_of: datetime | None = None,
    make_current: bool = True,
    full: bool = False,
) -> Snapshot:
    """The features of every user in the data folder; it becomes the current snapshot, if that is wanted.

    With events they are computed as of `as_of` (by default the end of the data), going on from an earlier snapshot
    where that gives the same, unless `full`; imported facts give each user's latest row not after it. `schema` is what
    the catalog asks for (by default all that the dataset has). Raises UserError when there is no data or it is broken,
    a feature is not in it, or the result breaks the contract; `current` stays what it was then.
    """
    dataset = read_dataset(data)
    if dataset.get("users") == KEYED:
        raise UserError(
            f"{data} holds our own log, whose users are hashes already: features are built from the users' own ids. "
            "Import the history that has them, or use another --home for one of the two."
        )
    have = Schema.from_json(dataset["features"])
    if has_events(data, dataset):
        snapshot = from_events(data, snapshots, dataset, _chosen(schema or have, SCHEMA), as_of, full=full)
    else:
        snapshot = _from_facts(data, snapshots, _chosen(schema or have, have), as_of, full=full)
    if make_current:
        set_current(snapshots, snapshot)
    return snapshot


def build_days(
    data: Path,
    snapshots: Path,
    first: date,
    last: date,
    *,
    schema: Schema | None = None,
    full: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Snapshot, ...]:
    """One snapshot as of the start (UTC) of each day, the last one included, each going on from the day before.

    The current snapshot stays. Raises UserError at the first day that can't be built; those before it stay as well.
    """
    if last < first:
        raise UserError(f"The days go from {first} to {last}: turn them round.")
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    built: list[Snapshot] = []
    for day in days:
        try:
            built.append(
                build_snapshot(data, snapshots, schema=schema, as_of=start_of(day), make_current=False, full=full)
            )
        except UserError as error:
            kept = f" The {len(built)} before it are built." if built else ""
            raise UserError(f"The snapshot of {day} can't be built: {error}{kept}") from None
        progress(len(built), len(days))
    return tuple(built)


def snapshot_rows(snapshot: Snapshot, secret: bytes) -> Iterator[tuple[str, bytes]]:
    """(user key, packed vector) of every user, for publishing: packed a batch at a time."""
    width = 4 * snapshot.schema.width
    for batch in snapshot.batches():
        packed = pack_frame(snapshot.schema, batch).tobytes()
        for row, user_id in enumerate(batch["user_id"]):
            yield user_key(secret, user_id), packed[row * width : (row + 1) * width]


def read_dataset(data: Path) -> Mapping[str, Any]:
    """What the data folder says of itself. Raises UserError where it says nothing that can be read."""
    file = data / "dataset.json"
    try:
        dataset = json.loads(file.read_text())
        Schema.from_json(dataset["features"])
        if "until" in dataset:
            datetime.fromisoformat(dataset["until"])
    except FileNotFoundError:
        raise UserError(f"There is no dataset in {data}: run `segue data simulate` or import one first.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}): import the data again.") from None
    return dataset


def _chosen(wanted: Schema, have: Schema) -> Schema:
    """What is wanted, as far as the dataset can give it in the same shape."""
    known = {spec.name: spec.type for spec in have.specs}
    for spec in wanted.specs:
        if spec.name not in known:
            raise UserError(
                f"The catalog declares the feature {spec.name}, which the data doesn't have: remove it from "
                "features.yaml, or mark it `from: context` if clients send it."
            )
        if known[spec.name] is not spec.type:
            raise UserError(f"The catalog declares {spec.name} as {spec.type}, the data as {known[spec.name]}.")
    return wanted


# --- From imported facts ---


def _from_facts(data: Path, snapshots: Path, schema: Schema, as_of: datetime | None, *, full: bool) -> Snapshot:
    latest, moment = _latest_facts(data, utc(as_of) if as_of else None)
    sources = {name: fingerprint(data / f"{name}.parquet") for name in ("facts", "decisions")}
    told = identity(moment, schema, sources)
    if not full and (there := whole_snapshot(snapshots / told["id"])):
        return there
    with drafted(snapshots, told["id"]) as draft:
        parts, rows = write_parts(draft, schema, _typed_batches(latest, schema))
        write_manifest(draft, {**told, "rows": rows, "parts": parts, "schema": schema.to_json()})
    return read_snapshot(snapshots / told["id"])


def _typed_batches(frame: pd.DataFrame, schema: Schema) -> Iterator[pa.RecordBatch]:
    columns = {"user_id": frame["user_id"].astype("string")}
    for spec in schema.specs:
        try:
            columns[spec.name] = typed_column(spec, frame[spec.name])
        except (ValueError, TypeError) as error:
            raise UserError(f"facts.parquet: {spec.name} holds what is no {spec.type} ({error}).") from None
        except KeyError:
            raise UserError(f"facts.parquet has no column {spec.name}, which dataset.json tells of.") from None
    table = pa.Table.from_pandas(pd.DataFrame(columns), schema=arrow_schema(schema.specs), preserve_index=False)
    yield from table.to_batches(max_chunksize=BATCH_ROWS)


def _latest_facts(data: Path, until: datetime | None) -> tuple[pd.DataFrame, datetime]:
    """Each user's latest facts in the order of user ids, and the latest moment among them."""
    facts = read_table(data / "facts.parquet")
    if "decision_id" in facts.columns:
        decisions = read_table(data / "decisions.parquet", ["decision_id", "user_id", "at"])
        facts = facts.drop(columns=["user_id", "as_of"], errors="ignore").merge(decisions, on="decision_id")
        facts = facts.rename(columns={"at": "as_of"})
    if until is not None:
        facts = facts[facts["as_of"] <= until]
    if facts.empty:
        raise UserError(f"No facts in {data} are from {until} or before: choose a later moment.")
    latest = facts.sort_values("as_of", kind="stable").drop_duplicates("user_id", keep="last")
    moment = until or utc(facts["as_of"].max().to_pydatetime(warn=False))
    return latest.sort_values("user_id", ignore_index=True), moment
