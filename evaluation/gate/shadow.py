"""What a challenger showed while it scored live traffic: skew of its features, its time, and whether it replays."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from decisioning.domain import Value
from decisioning.engine import Release
from evaluation.gate.lines import LEAST_TIMED, Shadow
from evaluation.recorded.replay import replay
from features.schema import Schema
from features.snapshots import Snapshot, snapshot_rows
from stores.log.decision_log import CHALLENGER, DecisionRecord


def shadow(
    records: Sequence[DecisionRecord],
    load: Callable[[str], Release],
    snapshots: Iterable[Snapshot],
    secret: bytes,
    features: Iterable[str],
) -> Shadow:
    """The evidence in the records of decisions that a challenger scored.

    `load` gives a release by id; `features` names what the challenger reads of the snapshot.
    """
    compared, off, uncompared = skew(records, snapshots, secret, frozenset(features))
    again = replay(records, load)
    timed = _timed(records, load)
    return Shadow(
        decisions=len(records),
        compared=compared,
        off=off,
        uncompared=uncompared,
        timed=len(timed),
        p99=_p99(list(map(_whole, timed))),
        deadline=_deadline(timed[0], load) if timed else 0.0,
        scoring_p99=_p99([record.durations[CHALLENGER] for record in timed]),
        replayed=again.decisions,
        identical=again.identical,
    )


def skew(
    records: Sequence[DecisionRecord], snapshots: Iterable[Snapshot], secret: bytes, features: frozenset[str]
) -> tuple[int, int, int]:
    """(values compared, those that differ, decisions that could not be compared).

    Each decision's feature values, as logged, against the offline snapshot of the same moment, value by value, in the
    float32 that both are stored in. A value that is missing on one side alone differs. One that was fresher than the
    snapshot is left out: no snapshot of that moment knows it.
    """
    wanted: dict[float, dict[str, list[DecisionRecord]]] = {}
    for record in records:
        if record.facts.as_of is not None:
            wanted.setdefault(record.facts.as_of, {}).setdefault(record.request.user, []).append(record)
    compared = off = matched = 0
    for snapshot in snapshots:
        users = wanted.pop(snapshot.as_of, None)
        if not users:
            continue
        names = [name for name in snapshot.schema.names if name in features]
        for user, offline in _vectors(snapshot, secret, users):
            for record in users[user]:
                held = [name for name in names if name not in record.facts.fresh]
                matched += 1
                compared += len(held)
                off += _off(record.facts.features, offline, held, snapshot.schema)
    return compared, off, len(records) - matched


def _vectors(snapshot: Snapshot, secret: bytes, users: Mapping[str, object]) -> Iterator[tuple[str, dict[str, Value]]]:
    for user, packed in snapshot_rows(snapshot, secret):
        if user in users:
            yield user, snapshot.schema.unpack(packed)


def _off(logged: Mapping[str, Value], offline: Mapping[str, Value], names: Sequence[str], schema: Schema) -> int:
    online = schema.unpack(schema.pack({name: logged.get(name) for name in schema.names}))
    return sum(online.get(name) != offline.get(name) for name in names)


def _timed(records: Sequence[DecisionRecord], load: Callable[[str], Release]) -> list[DecisionRecord]:
    """Those whose time was taken, of the surface that has least of its deadline left; of many decisions, if one has."""
    by_surface: dict[str, list[DecisionRecord]] = {}
    for record in records:
        if CHALLENGER in record.durations:
            by_surface.setdefault(record.request.surface, []).append(record)

    def urgency(some: list[DecisionRecord]) -> tuple[int, float]:
        return min(len(some), LEAST_TIMED), _p99([sum(one.durations.values()) for one in some]) / _deadline(
            some[0], load
        )

    return max(by_surface.values(), key=urgency, default=[])


def _whole(record: DecisionRecord) -> float:
    """Seconds of a decision; the challenger's are a part of `decide`."""
    return sum(record.durations.values()) - record.durations[CHALLENGER]


def _deadline(record: DecisionRecord, load: Callable[[str], Release]) -> float:
    return load(record.decision.release).catalog.surfaces[record.request.surface].deadline


def _p99(seconds: Sequence[float]) -> float:
    return float(np.quantile(seconds, 0.99)) if len(seconds) else 0.0
