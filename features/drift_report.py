"""What a comparison of two windows found: each thing that may drift with its limit, and how fresh the values are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import sqrt
from typing import Any

import numpy as np

from features.drift import FALSE_ALARMS, Cells, Counts, limit, psi

MOST_STALE = 0.01
"""The share of values that may be older than their `max_age`."""
PUBLISHED = ", published"
"""Marks the age of what the online store serves, beside that of the snapshot."""


@dataclass(frozen=True, slots=True)
class Window:
    """One side of the comparison."""

    name: str
    """The snapshot's id, or the moments between which decisions fell."""
    start: float | None
    """Epoch seconds; None for a snapshot, which is of one moment."""
    end: float
    rows: int

    @classmethod
    def between(cls, start: float, end: float, rows: int) -> "Window":
        return cls(f"{moment(start)} to {moment(end)}", start, end, rows)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one feature, score or share moved, and how far it may. Pairs are before and after."""

    name: str
    psi: float
    limit: float
    basis: str
    """What the limit is from: "history", "default" or "noise"."""
    earlier: int
    """How many earlier moves were known."""
    status: str
    """`drifted` beyond the limit; `watch` where it is worth a look; else `ok`."""
    rows: tuple[int, int]
    missing: tuple[float, float]
    """Shares."""
    unseen: float | None
    """The share of categories that the window before did not have; None of numbers."""
    means: tuple[float | None, float | None] | None
    """Of a flag, the shares of yes; None of other categories."""
    shift: float | None
    shift_error: float | None
    """The standard error of the shift."""
    labels: tuple[str, ...]
    """Of the cells of the reference, with the shares of the values in them."""
    shares: tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the values of a feature are where they are used, against the age at which they count as missing."""

    name: str
    max_age: float
    """Seconds."""
    oldest: float
    """Seconds: of a snapshot its age, of a log the age that 1 % of the decisions exceed."""
    stale: float
    """The share of values older than `max_age`."""

    @property
    def ok(self) -> bool:
        return self.stale <= MOST_STALE


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Two windows of features, or of decisions."""

    what: str
    """"snapshots" or "decisions"."""
    before: Window
    after: Window
    drifts: tuple[Drift, ...]
    """The farthest beyond its limit first."""
    freshness: tuple[Freshness, ...]
    notes: tuple[str, ...] = ()
    """What could not be compared, and why."""

    @property
    def drifted(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.drifts if one.status == "drifted")

    @property
    def stale(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.freshness if not one.ok)

    @property
    def ok(self) -> bool:
        return not self.drifted and not self.stale

    def to_json(self) -> dict[str, Any]:
        told = asdict(self) | {"ok": self.ok, "drifted": list(self.drifted), "stale": list(self.stale)}
        for row, one in zip(told["freshness"], self.freshness, strict=True):
            row["ok"] = one.ok
        return told


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that may drift, counted in both windows and in earlier ones by the same cells."""

    name: str
    before: Counts
    after: Counts
    earlier: Sequence[Counts]
    """Oldest first, up to the window before."""
    labels: tuple[str, ...]
    is_number: bool
    """Whether a mean says anything: of numbers and flags."""


def compare(subjects: Sequence[Subject]) -> tuple[Drift, ...]:
    """All of them against their limits, such that the chance of any false alarm is `FALSE_ALARMS` by Bonferroni.

    Earlier moves are those between successive earlier windows, up to the window before.
    """
    alarms = FALSE_ALARMS / max(len(subjects), 1)
    found = [_drift(one, alarms) for one in subjects]
    return tuple(sorted(found, key=lambda one: (-one.psi / one.limit, one.name)))


def _drift(one: Subject, alarms: float) -> Drift:
    before, after = one.before, one.after
    earlier = [counts for counts in one.earlier if counts.rows]
    moved, may = psi(before, after), limit(before, after, earlier, alarms)
    means, shift, error = _shift(before, after) if one.is_number else (None, None, None)
    return Drift(
        name=one.name,
        psi=moved,
        limit=may.psi,
        basis=may.basis,
        earlier=len(earlier),
        status="drifted" if moved > may.psi else "watch" if moved > may.watch else "ok",
        rows=(before.rows, after.rows),
        missing=(before.missing, after.missing),
        unseen=after.unseen_by(before) if before.cells.by_value else None,
        means=means,
        shift=shift,
        shift_error=error,
        labels=one.labels,
        shares=(_shares(before), _shares(after)),
    )


def _shift(before: Counts, after: Counts) -> tuple[tuple[float | None, float | None], float | None, float | None]:
    was, now = before.mean, after.mean
    if was is None or now is None:
        return (was and was[0], now and now[0]), None, None
    return (was[0], now[0]), now[0] - was[0], sqrt(was[1] + now[1])


def _shares(counts: Counts) -> tuple[float, ...]:
    return tuple((counts.n / max(counts.rows, 1)).tolist())


def labels(cells: Cells, name: Callable[[float], str] = lambda value: f"{value:.4g}") -> tuple[str, ...]:
    """What the cells are called; `name` says a value."""
    names = [name(mark) for mark in cells.marks]
    if cells.by_value:
        return (*names, "others", "missing")
    if not names:
        return ("known", "missing")
    bounds = [f"≤ {each}" for each in names]
    if cells.has_heap:
        bounds[:2] = [f"< {names[1]}", names[1]]
    return (*bounds, f"> {names[-1]}", "missing")


def freshness(ages: np.ndarray, max_ages: Mapping[str, float]) -> tuple[Freshness, ...]:
    """Of values that are all of the same ages: float64 seconds, finite. Nothing can be said of none."""
    if not len(ages):
        return ()
    oldest = float(np.quantile(ages, 0.99))
    return tuple(
        Freshness(name, limit, oldest, float((ages > limit).mean())) for name, limit in sorted(max_ages.items())
    )


def together(found: Sequence[Freshness]) -> tuple[Freshness, ...]:
    """Those that are equally old and may be equally old as one, with how many they are for a name."""
    alike: dict[tuple[bool, float, float, float], list[Freshness]] = {}
    for one in found:
        published = one.name.endswith(PUBLISHED)
        alike.setdefault((published, one.oldest, one.max_age, one.stale), []).append(one)
    return tuple(
        replace(ones[0], name=f"{len(ones)} features{PUBLISHED if published else ''}") if len(ones) > 1 else ones[0]
        for (published, *_), ones in alike.items()
    )


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def verdict(report: DriftReport) -> str:
    """The report in a sentence."""
    if report.ok:
        near = sum(one.status == "watch" for one in report.drifts)
        return f"None of {len(report.drifts)} drifted" + (f"; {near} moved far enough to watch." if near else ".")
    said = [f"drifted: {', '.join(report.drifted)}"] if report.drifted else []
    said += [f"stale: {', '.join(report.stale)}"] if report.stale else []
    return f"Of {len(report.drifts)}, {'; '.join(said)}."


def words(one: Drift) -> str:
    """What the limit of one is from."""
    return f"{one.earlier} moves" if one.basis == "history" else one.basis


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def shift(one: Drift) -> str:
    """The shift of the mean with its standard error."""
    return "" if one.shift is None or one.shift_error is None else f"{one.shift:+.3g} ± {one.shift_error:.2g}"


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
