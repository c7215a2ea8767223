"""Recorded traffic: which decisions of the log are meant, and which of their records count."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from evaluation.recorded.sweeping import Opened, Progress, quietly, sweep
from scaling.engines import Engine
from scaling.local import HERE
from stores.log.chunks import Part, chunks, latest, moment_of_last
from stores.log.decision_log import DecisionRecord, decided_at, decode
from stores.log.reader import tail

LOOKED_AT = 1000
"""How many of the latest lines tell which releases were in use."""
SPANS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0}


@dataclass(frozen=True)
class Traffic:
    """Decisions of a log from a moment on."""

    chunks: tuple[Part, ...]
    since: float
    """Decisions before this moment are not meant, even where they stand in the chunks."""
    until: float
    """The time of the last decision."""
    repeats: Mapping[str, float] = field(default_factory=dict)
    """By id, where several records have it: the moment of the one that counts. See `decision_log.distinct`."""


def recorded(folder: Path, last: str) -> Traffic:
    """The decisions that `last` means: a number of them, a time back from the latest (7d, 24h, 90m, 2w), or `all`.

    Raises UserError where there are no decisions, and for a `last` of another form.
    """
    span, count = read_last(last)
    until = latest(folder, decided_at)
    if until is None:
        raise UserError(f"There are no decisions in {folder} yet: serve some first.")
    since = -inf if span is None else until - span
    if count is not None:
        since = moment_of_last(folder, count, decided_at)
    return Traffic(chunks(folder, since, decided_at), since, until)


def extended(traffic: Traffic, folder: Path, since: float) -> Traffic:
    """The chunks from an earlier moment on; which decisions are meant stays as it is."""
    return traffic if since >= traffic.since else replace(traffic, chunks=chunks(folder, since, decided_at))


def without_repeats(
    traffic: Traffic, sticky: Iterable[str], *, engine: Engine = HERE, progress: Progress = quietly
) -> Traffic:
    """The traffic, knowing which records don't count. `sticky` names the surfaces where several may share an id."""
    marks = tuple(f'.{name}"'.encode() for name in sorted(sticky))
    if not marks:
        return traffic
    seen = sweep(Survey(marks), traffic.chunks, engine=engine, progress=progress)
    return replace(traffic, repeats=seen.repeats)


def latest_releases(folder: Path) -> list[str]:
    """Those that made the latest decisions, the latest first."""
    found: dict[str, None] = {}
    for line in reversed(tail(folder, LOOKED_AT, None)):
        try:
            found.setdefault(decode(line).decision.release)
        except (msgspec.MsgspecError, ValueError):
            continue
    return list(found)


def sticky_surfaces(*catalogs: Catalog) -> set[str]:
    """Where the same id may stand for several records."""
    return {name for catalog in catalogs for name, surface in catalog.surfaces.items() if surface.sticky}


def read_last(text: str) -> tuple[float | None, int | None]:
    """Seconds, or a number of decisions; neither for `all`."""
    if text == "all":
        return None, None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw]?)", text, re.ASCII)
    if found and found[2] and float(found[1]) > 0:
        return float(found[1]) * SPANS[found[2]], None
    if found and found[1].isdecimal() and int(found[1]) > 0:
        return None, int(found[1])
    raise UserError(f"--last takes a number of decisions, a time such as 7d, 24h or 90m, or all; and not {text}.")


def records(taken: Iterable[bytes], since: float) -> Iterator[DecisionRecord | None]:
    """The records from a moment on; None for each line that is no decision."""
    for line in taken:
        try:
            record = decode(line)
        except (msgspec.MsgspecError, ValueError):
            yield None
            continue
        if record.request.now >= since:
            yield record


def readable(taken: Iterable[bytes]) -> Iterator[DecisionRecord]:
    """The records, without the lines that are no decision: a torn one is no reason to look at nothing."""
    return (record for record in records(taken, -inf) if record is not None)


# --- Records that share an id -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """By id: (whether nothing was drawn, when) of the record that counts, and how many there are."""

    ids: Mapping[str, tuple[bool, float, int]]

    def __add__(self, other: "Seen") -> "Seen":
        merged = dict(self.ids)
        for name, (undrawn, at, count) in other.ids.items():
            known = merged.get(name)
            merged[name] = (
                (*min((undrawn, at), known[:2]), count + known[2]) if known is not None else (undrawn, at, count)
            )
        return Seen(merged)

    @property
    def repeats(self) -> dict[str, float]:
        return {name: at for name, (_, at, count) in self.ids.items() if count > 1}


@dataclass(frozen=True)
class Survey:
    """Finds the ids that several records have, among those that end as `marks` do."""

    marks: tuple[bytes, ...]

    def __call__(self) -> Opened[Seen]:
        return self._seen

    def _seen(self, taken: Iterable[bytes]) -> Seen:
        ids: dict[str, tuple[bool, float, int]] = {}
        for line in taken:
            head = line[:400]
            if not any(mark in head for mark in self.marks):
                continue
            try:
                one = _brief.decode(line)
            except (msgspec.MsgspecError, ValueError):
                continue
            mine = (one.decision.policy is None, one.request.now, 1)
            known = ids.get(one.request.decision_id)
            ids[one.request.decision_id] = mine if known is None else (*min(mine[:2], known[:2]), known[2] + 1)
        return Seen(ids)


class _BriefRequest(msgspec.Struct):
    decision_id: str
    now: float


class _BriefDecision(msgspec.Struct):
    policy: dict[str, Any] | None


class _Brief(msgspec.Struct):
    request: _BriefRequest
    decision: _BriefDecision


_brief = msgspec.json.Decoder(_Brief)
