"""What a challenger showed while it scored live traffic: skew of its features, its time, and whether it replays."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from decisioning.domain import Value
from decisioning.engine import Release
from evaluation.gate import Shadow
from evaluation.replay import replay
from features.schema import Schema
from features.snapshots import Snapshot, snapshot_rows
from stores.decision_log import CHALLENGER, DecisionRecord, encode


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
    again = replay(map(encode, records), load)
    timed = [record for record in records if CHALLENGER in record.durations]
    p99, deadline = _slowest(timed, load)
    return Shadow(
        decisions=len(records),
        compared=compared,
        off=off,
        uncompared=uncompared,
        timed=len(timed),
        p99=p99,
        deadline=deadline,
        scoring_p99=_p99([record.durations[CHALLENGER] for record in timed]),
        replayed=again.decisions,
        identical=again.identical,
    )


def skew(
    records: Sequence[DecisionRecord], snapshots: Iterable[Snapshot], secret: bytes, features: frozenset[str]
) -> tuple[int, int, int]:
    """(values compared, those that differ, decisions that could not be compared).

    Each decision's feature values, as logged, against the offline snapshot of the same moment, value by value, in the
    float32 that both are stored in. A value that is missing on one side alone differs.
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
                matched += 1
                compared += len(names)
                off += _off(record.facts.features, offline, names, snapshot.schema)
    return compared, off, len(records) - matched


def _vectors(snapshot: Snapshot, secret: bytes, users: Mapping[str, object]) -> Iterator[tuple[str, dict[str, Value]]]:
    for user, packed in snapshot_rows(snapshot, secret):
        if user in users:
            yield user, snapshot.schema.unpack(packed)


def _off(logged: Mapping[str, Value], offline: Mapping[str, Value], names: Sequence[str], schema: Schema) -> int:
    online = schema.unpack(schema.pack({name: logged.get(name) for name in schema.names}))
    return sum(online.get(name) != offline.get(name) for name in names)


def _slowest(records: Sequence[DecisionRecord], load: Callable[[str], Release]) -> tuple[float, float]:
    """(p99 of the whole decision, deadline) of the surface where the two are closest; zeros without any."""
    by_surface: dict[str, list[float]] = {}
    deadlines: dict[str, float] = {}
    for record in records:
        surface = record.request.surface
        by_surface.setdefault(surface, []).append(sum(record.durations.values()) - record.durations[CHALLENGER])
        if surface not in deadlines:
            deadlines[surface] = load(record.decision.release).catalog.surfaces[surface].deadline
    found = [(_p99(seconds), deadlines[surface]) for surface, seconds in by_surface.items()]
    return max(found, key=lambda one: one[0] / one[1], default=(0.0, 0.0))


def _p99(seconds: Sequence[float]) -> float:
    return float(np.quantile(seconds, 0.99)) if len(seconds) else 0.0
