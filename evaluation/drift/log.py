"""Drift between two windows of the decision log: features as they were logged, scores, and where answers came from.

Limits come from the windows of the same length before them. The decisions of a user are alike: the sample size that
counts is about that of the users (`features.drift.Counts.size`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, nextafter
from pathlib import Path

import numpy as np

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.errors import UserError
from evaluation.drift.columns import SOURCES, Column, Key, LoggedWindow, LogReader
from evaluation.recorded.traffic import Progress, quietly, read_last
from features.drift import Cells, Counts
from features.drift_report import DriftReport, Subject, Window, compare, freshness, labels, moment
from features.snapshot_drift import BY_VALUE, say
from stores.log.chunks import chunks, latest, lines
from stores.log.decision_log import decided_at

MOST_EARLIER = 4
"""How many earlier windows say what is usual; each costs as much time as either of the two."""
SOURCE = FeatureSpec("source", FeatureType.ENUM, SOURCES)
SCORE = FeatureSpec("p_convert", FeatureType.FLOAT)


def log_drift(
    logged: Iterable[bytes], catalog: Catalog, *, until: float, length: float, earlier: int = MOST_EARLIER
) -> DriftReport:
    """The last `length` seconds before `until`, against as many before them. `logged` are lines of the decision log.

    `catalog` says what features there are. Raises UserError where a window is empty.
    """
    reader = LogReader(catalog)
    windows = reader.read(logged, until, length, 2 + earlier)
    after, before, *past = windows
    for window, age in ((after, 0), (before, 1)):
        if not window.users:
            raise UserError(_empty(windows, until, length, age))
    new, old, *older = (one.columns(reader.names) for one in (after, before, *past))
    specs = reader.specs
    subjects = [_subject(key, specs, old[key], new[key], _known(key, older)) for key in sorted(old.keys() & new.keys())]
    max_ages = {name: spec.max_age for name, spec in specs.items() if spec.max_age and not spec.from_context}
    return DriftReport(
        what="decisions",
        before=Window.between(until - 2 * length, until - length, len(before.users)),
        after=Window.between(until - length, until, len(after.users)),
        drifts=compare(subjects),
        freshness=freshness(np.frombuffer(after.ages), max_ages),
        notes=tuple(_notes(old.keys() - new.keys(), new.keys() - old.keys(), before, after)),
    )


def recorded_drift(
    folder: Path, catalog: Catalog, *, last: str, until: float | None = None, progress: Progress = quietly
) -> DriftReport:
    """The drift of a log in a folder: `last` is a time such as 7d; `until` by default just after the last decision.

    `progress` is told of megabytes. Raises UserError as `log_drift`, and where there is no log.
    """
    length, _ = read_last(last)
    if length is None:
        raise UserError(f"Drift is of two equal spans of time: --last takes 7d, 24h, 90m or 2w, and not {last}.")
    ended = latest(folder, decided_at)
    if ended is None:
        raise UserError(f"There are no decisions in {folder} yet: serve some first.")
    until = nextafter(ended, inf) if until is None else until
    return log_drift(_lines(folder, until - (2 + MOST_EARLIER) * length, progress), catalog, until=until, length=length)


def _lines(folder: Path, since: float, progress: Progress) -> Iterator[bytes]:
    parts, done = chunks(folder, since, decided_at), 0
    for part in parts:
        yield from lines(part)
        done += part.size
        progress(done >> 20, sum(one.size for one in parts) >> 20)


def _known(key: Key, older: Sequence[Mapping[Key, Column]]) -> list[Column]:
    """What earlier windows have of it, the oldest first."""
    return [columns[key] for columns in reversed(older) if key in columns and len(columns[key][0])]


def _subject(
    key: Key, specs: Mapping[str, FeatureSpec], before: Column, after: Column, earlier: Sequence[Column]
) -> Subject:
    spec = specs[key[1]] if key[0] == "feature" else SOURCE if key[0] == "source" else SCORE
    cells = Cells.of(before[0], by_value=spec.type in BY_VALUE)
    return Subject(
        name=name_of(key),
        before=Counts.of(cells, *before),
        after=Counts.of(cells, *after),
        earlier=[Counts.of(cells, *one) for one in earlier],
        labels=labels(cells, lambda value: say(spec, value)),
        is_number=spec.type not in BY_VALUE or spec.type is FeatureType.BOOL,
    )


def name_of(key: Key) -> str:
    """What people call it: a feature by its name, a score as `p_convert of model` or `p_convert of model for offer`."""
    match key:
        case ("feature", name):
            return name
        case ("score", model):
            return f"p_convert of {model}"
        case ("score", model, offer):
            return f"p_convert of {model} for {offer}"
    return "source of decisions"


def _empty(windows: Sequence[LoggedWindow], until: float, length: float, age: int) -> str:
    start, end = until - (age + 1) * length, until - age * length
    near = sum(len(window.users) for window in windows)
    gap = f"{moment(start)} and {moment(end)} UTC"
    around = f"{near:,} lie in the windows around it" if near else "nor near it"
    return f"No decision was logged between {gap} ({around}): choose another --last or --until."


def _notes(gone: Iterable[Key], new: Iterable[Key], before: LoggedWindow, after: LoggedWindow) -> Iterator[str]:
    for which, keys in (("before", gone), ("after", new)):
        if keys:
            yield f"Only in the window {which}: {', '.join(sorted(map(name_of, keys)))}."
    if before.models != after.models:
        was, now = (", ".join(sorted(window.models)) or "none" for window in (before, after))
        yield f"The models were {was} and are {now} now."
    if after.torn:
        yield f"{after.torn:,} lines of the log are no decisions."
