"""Drift between two windows of the decision log: features as they were logged, scores, and where answers came from.

Limits come from the windows of the same length before them. The decisions of a user are alike: the sample size that
counts is about that of the users (`features.drift.Counts.size`).
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np

from decisioning.catalog import DAY, Catalog, FeatureSpec, FeatureType
from decisioning.domain import Source, Value
from decisioning.errors import UserError
from features.drift import Cells, Counts
from features.drift_report import DriftReport, Subject, Window, compare, freshness, labels, moment
from features.snapshot_drift import BY_VALUE, say
from stores.decision_log import DecisionRecord, decided_at, decode

MOST_EARLIER = 4
"""How many earlier windows say what is usual; each costs as much time as the two that are compared."""
SOURCES = FeatureSpec("source", FeatureType.ENUM, tuple(Source))
SCORE = FeatureSpec("p_convert", FeatureType.FLOAT)

Key = tuple[str, ...]
"""What is counted: ("feature", its name), ("score", model, offer or ""), ("source",)."""


def log_drift(
    lines: Iterable[bytes], catalog: Catalog, *, until: float, length: float, earlier: int = MOST_EARLIER
) -> DriftReport:
    """The last `length` seconds before `until`, against as many before them. `lines` are of the decision log.

    `catalog` says what features there are. Where a decision was logged twice, its first line counts. Raises UserError
    where a window is empty.
    """
    windows, specs = _read(lines, catalog, until=until, length=length, windows=2 + earlier)
    after, before, *past = windows
    for window, age in ((after, 0), (before, 1)):
        if not window.users:
            raise UserError(_empty(windows, until, length, age))
    past = [window for window in reversed(past) if window.users]  # oldest first
    keys = sorted(after.values.keys() & before.values.keys())
    subjects = [_subject(key, specs, before, after, past) for key in keys]
    max_ages = {spec.name: spec.max_age for spec in catalog.features.values() if spec.max_age and not spec.from_context}
    return DriftReport(
        what="decisions",
        before=Window.between(until - 2 * length, until - length, len(before.users)),
        after=Window.between(until - length, until, len(after.users)),
        drifts=compare(subjects),
        freshness=freshness(np.frombuffer(after.ages), max_ages),
        notes=tuple(_notes(before, after)),
    )


def _empty(windows: Sequence["_Log"], until: float, length: float, age: int) -> str:
    start, end = until - (age + 1) * length, until - age * length
    seen = [window for window in windows if window.users]
    around = f"{sum(len(window.users) for window in seen):,} lie in the windows around it" if seen else "nor near it"
    gap = f"{moment(start)} and {moment(end)} UTC"
    return f"No decision was logged between {gap} ({around}): choose another --last or --until."


def _notes(before: "_Log", after: "_Log") -> Iterator[str]:
    for which, gone in (
        ("before", before.values.keys() - after.values),
        ("after", after.values.keys() - before.values),
    ):
        if gone:
            yield f"Only in the window {which}: {', '.join(sorted(map(name_of, gone)))}."
    if before.models != after.models:
        old, new = (", ".join(sorted(log.models)) or "none" for log in (before, after))
        yield f"The models were {old} and are {new} now."
    for what, log in (("before", before), ("after", after)):
        if log.torn:
            yield f"{log.torn:,} lines in the window {what} are no decisions."


def name_of(key: Key) -> str:
    """What people call it: a feature by its name, a score as `p_convert of model` or `p_convert of model for offer`."""
    match key:
        case ("feature", name):
            return name
        case ("score", model, ""):
            return f"p_convert of {model}"
        case ("score", model, offer):
            return f"p_convert of {model} for {offer}"
    return "source of decisions"


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Log:
    """One window of decisions, as columns."""

    users: array = field(default_factory=lambda: array("q"))
    """A number for each decision's user."""
    values: dict[Key, array] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    owners: dict[Key, array] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    """Whose they are, where it is not one value a decision: of scores."""
    ages: array = field(default_factory=lambda: array("d"))
    """Seconds between a decision and the moment that its features describe, where they were known."""
    models: set[str] = field(default_factory=set)
    torn: int = 0

    def counts(self, key: Key, cells: Cells) -> Counts:
        return Counts.of(
            cells, np.frombuffer(self.values[key]), np.frombuffer(self.owners.get(key, self.users), np.int64)
        )


def _read(
    lines: Iterable[bytes], catalog: Catalog, *, until: float, length: float, windows: int
) -> tuple[list[_Log], dict[str, FeatureSpec]]:
    """The windows, the latest first; and the features, with all values that were met."""
    found = [_Log() for _ in range(windows)]
    seen: set[str] = set()
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    specs = catalog.features
    words = {name: _Words({value: float(code) for code, value in enumerate(specs[name].values)}) for name in specs}
    codes = {name: _coder(specs[name], words[name]) for name in specs}
    for line in lines:
        try:
            at = -int((decided_at(line) - until) // length) - 1  # each window with its start, without its end
        except ValueError:
            at = 0
        if 0 <= at < windows:
            try:
                record = decode(line)
            except ValueError:
                found[at].torn += 1
                continue
            if record.decision.decision_id not in seen:
                seen.add(record.decision.decision_id)
                _add(found[at], record, numbers[record.request.user], codes, catalog)
    return found, {name: replace(spec, values=tuple(words[name])) for name, spec in specs.items()}


def _add(log: _Log, record: DecisionRecord, user: int, codes: Mapping[str, "Coder"], catalog: Catalog) -> None:
    request, facts, decision = record.request, record.facts, record.decision
    log.users.append(user)
    for name, code in codes.items():
        of = request.context if catalog.features[name].from_context else facts.features
        value = of.get(name)
        log.values["feature", name].append(nan if value is None else code(value, facts.as_of or request.now))
    log.values["source",].append(float(SOURCES.values.index(decision.source)))
    if facts.as_of is not None:
        log.ages.append(max(request.now - facts.as_of, 0.0))
    if decision.source is Source.MODEL and decision.model:
        log.models.update(decision.model.split(","))
        labelled = {label.rpartition("/")[0] or label for label in decision.model.split(",")}
        for offer, p in zip(decision.eligible, decision.p_convert, strict=True):
            model = catalog.offers[offer].score.model if offer in catalog.offers else None
            if model in labelled:
                for key in (("score", model, ""), ("score", model, offer)):
                    log.values[key].append(p)
                    log.owners[key].append(user)


class _Words(dict):
    """Codes of words, in the order in which they were met after those declared."""

    def __missing__(self, word: str) -> float:
        return self.setdefault(word, float(len(self)))


Coder = Callable[[Value, float], float]
"""A value as a number, given the moment that it describes."""


def _coder(spec: FeatureSpec, words: _Words) -> Coder:
    """As `features.schema.encode`, but any word has a code of its own, and a moment is an age in days.

    A value of another type, which an older catalog may have declared, counts as missing.
    """
    match spec.type:
        case FeatureType.ENUM | FeatureType.TEXT:
            return lambda value, _: words[value] if isinstance(value, str) else nan
        case FeatureType.SET:
            return lambda value, _: _mask(words, value) if isinstance(value, frozenset) else nan
        case FeatureType.TIME:
            return lambda value, at: (at - value) / DAY if isinstance(value, int | float) else nan
    return lambda value, _: float(value) if isinstance(value, int | float) else nan


def _mask(words: _Words, members: frozenset[str]) -> float:
    """Exact for 52 members; what comes after them is one more."""
    return sum({2.0 ** min(words[one], 52.0) for one in members})


# --- Counting ---------------------------------------------------------------------------------------------------------


def _subject(key: Key, specs: Mapping[str, FeatureSpec], before: _Log, after: _Log, past: Sequence[_Log]) -> Subject:
    spec = specs[key[1]] if key[0] == "feature" else SOURCES if key[0] == "source" else SCORE
    cells = Cells.of(np.frombuffer(before.values[key]).copy(), by_value=spec.type in BY_VALUE)
    return Subject(
        name=name_of(key),
        before=before.counts(key, cells),
        after=after.counts(key, cells),
        earlier=[log.counts(key, cells) for log in past if key in log.values],
        labels=labels(cells, lambda value: say(spec, value)),
        is_number=spec.type not in BY_VALUE or spec.type is FeatureType.BOOL,
    )
