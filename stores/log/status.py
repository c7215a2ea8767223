"""What there is of the logs: segments, days, what was dropped, how far it has been shipped."""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stores.log.columns import DECISIONS, EVENTS
from stores.log.cursors import Cursors, Place
from stores.log.event_log import DROPPED
from stores.log.segments import OPEN, sealed_segments
from stores.log.table import log_files, table_folder


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One log, as it is on disk."""

    open_segments: int
    sealed_segments: int
    """Not compacted yet."""
    segment_bytes: int
    days: int
    first_day: str | None
    last_day: str | None
    lines: int
    """Of the compacted days."""
    line_bytes: int
    parquet_bytes: int
    kept_segments: int
    """Compacted, and still on disk."""
    dropped: int
    """Lines that could not be written, as far as it is on record."""
    dropped_last: str | None
    """When the last of them were dropped."""


def log_status(logs: Path) -> dict[str, LogStatus]:
    return {name: _status(logs / name) for name in (DECISIONS, EVENTS)}


def shipments(logs: Path) -> list[dict[str, Any]]:
    """For each destination and log: what was sent, when last, and how many segments wait."""
    found = []
    for cursor in Cursors(logs).all():
        for name in (DECISIONS, EVENTS):
            place = cursor.logs.get(name, Place())
            waiting = sum(path.name not in place.done for path in sealed_segments(logs / name))
            last = None if place.at is None else _iso(place.at)
            found.append({"to": cursor.to, "log": name, "lines": place.sent, "last": last, "waiting": waiting})
    return found


def _status(log: Path) -> LogStatus:
    table, live = log_files(log)
    days = sorted({str(part.day) for part in table.parts if part.day is not None})
    opened = [path for path in live if path.name.endswith(OPEN)]
    dropped = list(_dropped(log / DROPPED))
    return LogStatus(
        open_segments=len(opened),
        sealed_segments=len(live) - len(opened),
        segment_bytes=sum(_size(path) for path in live),
        days=len(days),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        lines=sum(part.rows for part in table.parts),
        line_bytes=sum(part.size for part in table.parts),
        parquet_bytes=sum(_size(table_folder(log) / part.path) for part in table.parts),
        kept_segments=sum((log / name).exists() for name in table.absorbed),
        dropped=sum(record["lines"] for record in dropped),
        dropped_last=_iso(max(record["until"] for record in dropped)) if dropped else None,
    )


def _dropped(file: Path) -> list[dict[str, Any]]:
    """The records of what was dropped; one that was cut short says nothing."""
    found = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # sealed or compacted since it was listed
        return 0


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
