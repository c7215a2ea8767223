"""Drift between two snapshots, a column at a time, with limits from the snapshots before them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from decisioning.catalog import DAY, FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.words import duration
from features.drift import Cells, Counts
from features.drift_report import PUBLISHED, DriftReport, Subject, Window, compare, freshness, labels, moment
from features.schema import Schema
from features.snapshots import Snapshot, current, read_snapshot

BY_VALUE = frozenset({FeatureType.BOOL, FeatureType.ENUM, FeatureType.SET, FeatureType.TEXT})
THREADS = 2
MOST_EARLIER = 14
"""How many earlier snapshots say what is usual: two weeks of days."""


def snapshot_drift(
    before: Snapshot,
    after: Snapshot,
    earlier: Sequence[Snapshot] = (),
    *,
    now: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DriftReport:
    """Every feature that both have in the same type; the ages of the values are as of `now`.

    `earlier`: oldest first, all before `before`. Raises UserError where there is nothing to compare.
    """
    for snapshot in (before, after):
        if not snapshot.rows:
            raise UserError(f"The snapshot {snapshot.id} holds nobody: there is nothing to compare.")
    if before.id == after.id:
        raise UserError(f"{before.id} can't be compared with itself: name two snapshots with --from and --to.")
    shared, notes = _shared(before.schema, after.schema)
    if not shared:
        raise UserError(f"{before.id} and {after.id} have no feature in common. {' '.join(notes)}")
    subjects = []
    with ThreadPoolExecutor(THREADS) as pool:  # numpy and Parquet let others run meanwhile
        for subject in pool.map(lambda spec: _subject(spec, before, after, earlier), shared):
            subjects.append(subject)
            progress(len(subjects), len(shared))
    return DriftReport(
        what="snapshots",
        before=Window(before.id, None, before.as_of, before.rows),
        after=Window(after.id, None, after.as_of, after.rows),
        drifts=compare(subjects),
        freshness=freshness(np.array([max(now - after.as_of, 0.0)]), _max_ages(after.schema)),
        notes=(*notes, *_spacing(before, after, earlier)),
    )


def with_published(report: DriftReport, schema: Schema, version: tuple[str, float] | None, now: float) -> DriftReport:
    """The same, with the ages of what the online store serves: a version's name and moment, None where it has none."""
    if version is None:
        return replace(report, notes=(*report.notes, "Nothing is published in the online store."))
    name, as_of = version
    max_ages = {feature + PUBLISHED: max_age for feature, max_age in _max_ages(schema).items()}
    ages = freshness(np.array([max(now - as_of, 0.0)]), max_ages)
    note = f"Published is {name}, as of {moment(as_of)} UTC."
    return replace(report, freshness=(*report.freshness, *ages), notes=(*report.notes, note))


def _max_ages(schema: Schema) -> dict[str, float]:
    return {spec.name: spec.max_age for spec in schema.specs if spec.max_age}


def history(snapshots: Path) -> list[Snapshot]:
    """All snapshots of a folder, by their moments, the oldest first; what can't be read is left out."""
    found = []
    for manifest in snapshots.glob("[!.]*/manifest.json"):
        with suppress(UserError):
            found.append(read_snapshot(manifest.parent))
    return sorted(found, key=lambda one: (one.as_of, one.id))


def pair(snapshots: Path, before: Snapshot | None, after: Snapshot | None) -> tuple[Snapshot, Snapshot, list[Snapshot]]:
    """What to compare: those given, or else the current one and the one before it; and what came before both.

    Raises UserError where there is no earlier one.
    """
    after = after or current(snapshots)
    known = [one for one in history(snapshots) if one.as_of < after.as_of]
    if before is None:
        if not known:
            raise UserError(
                f"There is no snapshot before {after.id} in {snapshots}: drift is seen between two. Build another with "
                "`segue features build` when there is newer data, or one of the past with --as-of."
            )
        before = known[-1]
    return before, after, [one for one in known if one.as_of < before.as_of][-MOST_EARLIER:]


def _spacing(before: Snapshot, after: Snapshot, earlier: Sequence[Snapshot]) -> Iterator[str]:
    """What is to be said where the moves of the history are over other times."""
    gaps = [newer.as_of - older.as_of for older, newer in pairwise([*earlier, before])]
    gap = after.as_of - before.as_of
    if gaps and not 2 / 3 <= gap / median(gaps) <= 3 / 2:
        yield (
            f"These two are {duration(gap)} apart, those before them {duration(median(gaps))}: what is usual for "
            "those may not be for these."
        )


def _shared(before: Schema, after: Schema) -> tuple[list[FeatureSpec], list[str]]:
    """The features of both, with the values that either declares, and what is to be said of the others."""
    old, new = ({spec.name: spec for spec in schema.specs} for schema in (before, after))
    common = sorted(old.keys() & new.keys())
    retyped = [name for name in common if old[name].type is not new[name].type]
    notes = [
        f"Only in the snapshot {which}: {', '.join(names)}."
        for which, names in (("before", sorted(old.keys() - new.keys())), ("after", sorted(new.keys() - old.keys())))
        if names
    ]
    notes += [f"{name} was {old[name].type} and is {new[name].type} now: not compared." for name in retyped]
    return [_joined(old[name], new[name]) for name in common if name not in retyped], notes


def _joined(old: FeatureSpec, new: FeatureSpec) -> FeatureSpec:
    values = (*old.values, *(value for value in new.values if value not in old.values))
    return FeatureSpec(old.name, old.type, values)


def _subject(spec: FeatureSpec, before: Snapshot, after: Snapshot, earlier: Sequence[Snapshot]) -> Subject:
    reference = np.concatenate(list(column(spec, before)))
    cells = Cells.of(reference, by_value=spec.type in BY_VALUE)
    same = [one for one in earlier if any((s.name, s.type) == (spec.name, spec.type) for s in one.schema.specs)]
    return Subject(
        name=spec.name,
        before=Counts.of(cells, reference),
        after=_counted(cells, spec, after),
        earlier=[_counted(cells, spec, one) for one in same],
        labels=labels(cells, lambda value: say(spec, value)),
        is_number=spec.type not in BY_VALUE or spec.type is FeatureType.BOOL,
    )


def _counted(cells: Cells, spec: FeatureSpec, snapshot: Snapshot) -> Counts:
    first, *others = (Counts.of(cells, part) for part in column(spec, snapshot))
    return sum(others, start=first)


def say(spec: FeatureSpec, value: float) -> str:
    """An encoded value in words."""
    match spec.type:
        case FeatureType.BOOL:
            return "yes" if value else "no"
        case FeatureType.ENUM | FeatureType.TEXT:
            return spec.values[int(value)] if value < len(spec.values) else "undeclared"
        case FeatureType.SET:
            names = [name for bit, name in enumerate(spec.values) if int(value) >> bit & 1]
            return " + ".join(names) or "none"
        case FeatureType.TIME:
            return f"{value:.4g} days ago"
    return f"{value:.4g}"


# --- Columns ----------------------------------------------------------------------------------------------------------


def column(spec: FeatureSpec, snapshot: Snapshot) -> Iterator[np.ndarray]:
    """The encoded values of one feature, a part of the snapshot at a time: float64, NaN where missing.

    A moment becomes its age in days at the snapshot's, as moments themselves always move.
    """
    for part in snapshot.manifest["parts"]:
        yield encoded(spec, pq.read_table(snapshot.path / part, columns=[spec.name]).column(0), snapshot.as_of)


def encoded(spec: FeatureSpec, values: pa.ChunkedArray, as_of: float) -> np.ndarray:
    """The same of a column as Parquet gives it."""
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan)
    match spec.type:
        case FeatureType.ENUM:
            # What is not declared has a code of its own, beyond the last.
            codes = pc.fill_null(pc.index_in(values, pa.array(spec.values, values.type)), len(spec.values))
            return _floats(pc.if_else(pc.is_valid(values), codes, None))
        case FeatureType.SET:
            return _masks(spec, values.combine_chunks())
        case FeatureType.TIME:
            epoch = _floats(pc.cast(values, pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())) / 1e6
            return (as_of - epoch) / DAY
    return _floats(values)


def _floats(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    return np.array(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _masks(spec: FeatureSpec, lists: pa.Array) -> np.ndarray:
    """Bit masks of lists; a null list is missing. A member that is not declared has the bit beyond the last."""
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    masks = np.zeros(len(lists))
    members = pc.list_flatten(lists)
    if len(members):
        bits = pc.fill_null(pc.index_in(members, pa.array(spec.values, members.type)), len(spec.values))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        masks = np.bincount(rows, weights=2.0 ** _floats(bits), minlength=len(lists))
    masks[_floats(pc.is_null(lists)) == 1] = np.nan
    return masks
