"""One snapshot from events: what it is built of, whether it can go on from an earlier one, and its manifest."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from decisioning.errors import UserError
from features.definitions import FEATURES
from features.events_to_features import Base, Reading, engine
from features.feature import Feature
from features.schema import Schema
from features.snapshot_files import (
    CARRIED,
    Snapshot,
    drafted,
    read_snapshot,
    whole_snapshot,
    write_manifest,
    write_parts,
)
from features.source_checks import check_columns, check_rows, check_users
from features.source_files import SourceFile, describe, fingerprint
from features.sources import USERS, EventSource, find_events, start_of, utc
from features.tallies import faults

Manifest = Mapping[str, Any]

CODE = (
    *("definitions.py", "feature.py", "declared/*.py", "portable.py", "compute.py"),
    *(
        "tallies.py",
        "loading.py",
        "events_to_features.py",
        "event_snapshots.py",
        "sources.py",
        "source_files.py",
        "source_checks.py",
    ),
)
"""Whatever bears on the values. Another version of it goes on from nothing that this one has left."""


@cache
def code_version() -> str:
    """16 hexadecimal digits over all code that computes features."""
    files = [file for pattern in CODE for file in sorted(Path(__file__).parent.glob(pattern))]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def from_events(
    data: Path, snapshots: Path, dataset: Manifest, schema: Schema, as_of: datetime | None, *, full: bool
) -> Snapshot:
    """The snapshot as of a moment, by default the end of the events. One that is there, and whole, isn't built again.

    It goes on from an earlier one if it can, unless `full`. Raises UserError as `build_snapshot`.
    """
    source = find_events(data, dataset)
    moment = utc(as_of) if as_of else source.until
    if moment > source.until:
        raise UserError(
            f"The events in {data} end at {source.until:%Y-%m-%d %H:%M} UTC: what is true at "
            f"{moment:%Y-%m-%d %H:%M} can't be told yet. Add the days between, or choose an earlier moment."
        )
    check_columns(path for path, _ in source.before(moment))
    earlier = [] if full else list(_earlier(snapshots, schema, moment))
    with engine(snapshots / ".spill") as connection:
        unsigned = check_users(connection, data / USERS)
        known = {file.name: file for file in _files(earlier[0])} if earlier else {}
        files = describe(connection, source, moment, known)
        check_rows(connection, source, files)
        told = _identity(moment, schema, files, data / USERS)
        final = snapshots / told["id"]
        if not full and (there := whole_snapshot(final)):
            return there
        base, because = (None, "--full was asked for") if full else _base(earlier, files)
        reading = Reading(connection, moment, _features(schema), base)
        with drafted(snapshots, told["id"]) as draft:
            reading.read(source, files, data / USERS)
            _check_known(reading, data)
            parts, rows = write_parts(draft, schema, reading.batches())
            if not (fault := next(faults(reading.features, reading.tallies), None)):
                reading.carry(draft / CARRIED)
                told["carried"] = fingerprint(draft / CARRIED)
            told |= {"rows": rows, "parts": parts, "schema": schema.to_json()}
            told |= _about(reading, fault or because, files, unsigned, _missing_days(source, moment))
            write_manifest(draft, told)
    return read_snapshot(final)


def _features(schema: Schema) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in FEATURES}
    return tuple(by_name[name] for name in schema.names)


def _identity(moment: datetime, schema: Schema, files: Iterable[SourceFile], users: Path) -> dict[str, Any]:
    """What a snapshot is of, and the id that follows from it."""
    held = [(file.name, file.digest, file.until.isoformat()) for file in files]
    sources = {"users": fingerprint(users), "events": sha256(json.dumps(held).encode()).hexdigest()}
    return identity(moment, schema, sources)


def identity(moment: datetime, schema: Schema, sources: Mapping[str, str]) -> dict[str, Any]:
    """The first lines of a manifest: the id follows from the others."""
    told = {
        "as_of": moment.isoformat(),
        "schema_hash": schema.hash,
        "sources": dict(sources),
        "code_version": code_version(),
    }
    mark = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return {"id": f"{moment:%Y%m%dT%H%M%SZ}-{mark}", **told}


def _about(
    reading: Reading, because: str | None, files: Iterable[SourceFile], unsigned: int, missing: list[str]
) -> dict[str, Any]:
    """What a manifest says of how it was built, and of what was left out."""
    counts = dict(reading.counts)
    base = reading.base and reading.base.carried.parent.name
    how = {"how": "full", "because": because} if base is None else {"how": "incremental", "from": base}
    left_out: Counter[str] = Counter()
    for file in files:
        left_out.update(file.left_out)
    left_out.update({"repeated": counts["repeated"], "of_unknown_users": counts["of_unknown_users"]})
    left_out.update({"users_without_sign_up": unsigned})
    return {
        "built": {**how, "events_read": counts["events_read"]},
        "left_out": {reason: number for reason, number in left_out.items() if number},
        **({"missing_days": missing} if missing else {}),
        "files": [file.to_json() for file in files],
    }


def _check_known(reading: Reading, data: Path) -> None:
    strangers, events = reading.counts["of_unknown_users"], reading.counts["events_before"]
    if events and strangers == events:
        raise UserError(
            f"None of the {events:,} events in {data} is of a user in {USERS}: the two tables name users differently. "
            "Write the same user_id into both."
        )


def _missing_days(source: EventSource, moment: datetime) -> list[str]:
    """Days without a partition between the first one and the moment: nobody did anything, or a load failed."""
    day, found, missing = timedelta(days=1), set(source.days), []
    at = source.days[0] if source.days else None
    while at is not None and start_of(at) + day <= moment:
        missing += [at.isoformat()] * (at not in found)
        at += day
    return missing


# --- Going on from an earlier day ---


def _earlier(snapshots: Path, schema: Schema, moment: datetime) -> Iterator[Snapshot]:
    """Snapshots of the same features by the same code, not after this moment, that have something to go on from."""
    found = []
    for file in snapshots.glob(f"[!.]*/{CARRIED}"):
        if (snapshot := whole_snapshot(file.parent)) is None:
            continue  # nothing to go on from; whoever wants that one itself is told
        same = (snapshot.manifest["schema_hash"], snapshot.manifest["code_version"]) == (schema.hash, code_version())
        if same and snapshot.moment <= moment:
            found.append(snapshot)
    yield from sorted(found, key=lambda snapshot: snapshot.moment, reverse=True)


def _files(snapshot: Snapshot) -> tuple[SourceFile, ...]:
    return tuple(SourceFile.from_json(obj) for obj in snapshot.manifest["files"])


def _base(earlier: list[Snapshot], files: Iterable[SourceFile]) -> tuple[Base | None, str | None]:
    """The latest one whose past is still what it was, or why there is none."""
    reasons = []
    for snapshot in earlier:
        if (reason := _changed(snapshot, files) or _damaged(snapshot)) is None:
            return Base(snapshot.moment, snapshot.carried), None
        reasons.append(reason)
    return None, reasons[0] if reasons else "there is no earlier snapshot of these features by this code"


def _damaged(snapshot: Snapshot) -> str | None:
    """Whether what was left to go on from is not what was written: a wrong tally would be handed on for ever."""
    is_whole = fingerprint(snapshot.carried) == snapshot.manifest.get("carried")
    return None if is_whole else f"{CARRIED} of {snapshot.id} is damaged"


def _changed(snapshot: Snapshot, files: Iterable[SourceFile]) -> str | None:
    """Which file changes what had happened before the snapshot's moment: one that is late, or gone, or another now."""
    now, then = ({file.name: file for file in some} for some in (files, _files(snapshot)))
    for name in sorted(now.keys() | then.keys()):
        new, old = now.get(name), then.get(name)
        if new is not None and old is not None and (new.digest, new.until) == (old.digest, old.until):
            continue
        if any(file is not None and file.first is not None and file.first < snapshot.moment for file in (new, old)):
            change = "is new" if old is None else "is gone" if new is None else "has changed"
            return f"{name} {change}, and tells of the time before {snapshot.moment:%Y-%m-%d %H:%M} UTC"
    return None
