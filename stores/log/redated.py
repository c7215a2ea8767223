"""Events that were reported again with the time of another day: the earliest stays, whichever day was written first.

Days that are near to what is new are looked through by hashes of their ids alone; lines are read where a hash comes
twice. Memory: 8 bytes for each of their lines, and some 500 for each that is there on several days.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from pyarrow.parquet import ParquetFile

from stores.log.columns import Kind, day_of
from stores.log.runs import hash_of, lines_in
from stores.log.table import BATCH_LINES

NEAR_DAYS = 7
"""How far apart two times of one event are looked for."""
Day = date | None
Paths = Mapping[Day, Sequence[Path]]
First = Mapping[bytes, tuple[float, bytes]]
"""By identity, the time and the line that stay."""


def redated(kind: Kind, runs: Paths, parts: Paths) -> tuple[First, frozenset[Day]]:
    """What stays of each record that is there on several days, and the days of the table that hold what doesn't.

    `runs`: what is new, `parts`: the table, both by day.
    """
    new = {day: paths for day, paths in runs.items() if day is not None}
    if not kind.id_columns or not new:
        return {}, frozenset()
    old = {day: paths for day, paths in parts.items() if day is not None and _is_near(day, new)}
    fresh = {day: _unique(_hashes_of_lines(kind, paths)) for day, paths in new.items()}
    known = {day: _unique(_hashes_of_rows(kind, paths)) for day, paths in old.items()}
    days = {day: np.union1d(*(some.get(day, _NONE) for some in (fresh, known))) for day in {*fresh, *known}}
    several = np.intersect1d(_twice(np.concatenate(list(days.values()))), np.concatenate(list(fresh.values())))
    if not len(several):
        return {}, frozenset()
    asked = frozenset(several.tolist())
    there: dict[bytes, dict[Day, tuple[float, bytes]]] = {}
    for day in (day for day, hashes in days.items() if np.isin(hashes, several).any()):
        for identity, when in _named(kind, [*new.get(day, ()), *old.get(day, ())], asked):
            of_day = there.setdefault(identity, {})
            of_day[day] = min(when, of_day.get(day, when))
    there = {identity: by_day for identity, by_day in there.items() if len(by_day) > 1}
    first = {identity: min(by_day.values()) for identity, by_day in there.items()}
    others = {day for identity, by_day in there.items() for day, when in by_day.items() if when != first[identity]}
    return first, frozenset(others & old.keys())


_NONE = np.zeros(0, np.uint64)


def _is_near(day: date, new: Iterable[date]) -> bool:
    return any(abs((day - one).days) <= NEAR_DAYS for one in new)


def _unique(hashes: Iterable[int]) -> np.ndarray:
    return np.unique(np.frombuffer(array("Q", hashes), np.uint64))


def _twice(hashes: np.ndarray) -> np.ndarray:
    found = np.sort(hashes)
    return found[1:][found[1:] == found[:-1]]


def _hashes_of_lines(kind: Kind, runs: Iterable[Path]) -> Iterator[int]:
    for run in runs:
        for line in lines_in(run):
            yield hash_of(kind.identity(line, kind.entry(line)))


def _hashes_of_rows(kind: Kind, parts: Iterable[Path]) -> Iterator[int]:
    for part in parts:
        with ParquetFile(part) as file:
            for batch in file.iter_batches(BATCH_LINES, columns=list(kind.id_columns), use_threads=False):
                columns = (batch.column(name).to_pylist() for name in kind.id_columns)
                yield from (hash_of(kind.named(*ids)) for ids in zip(*columns, strict=True))


def _named(kind: Kind, paths: Iterable[Path], asked: frozenset[int]) -> Iterator[tuple[bytes, tuple[float, bytes]]]:
    for path in paths:
        for line in lines_in(path):
            entry = kind.entry(line)
            identity = kind.identity(line, entry)
            if day_of(entry) is not None and hash_of(identity) in asked:
                yield identity, (entry.at, line)
