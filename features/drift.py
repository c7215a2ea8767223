"""Drift: how far the values of a feature moved between two windows, and how far they may.

Values come encoded as in `features.schema`: float64, NaN where missing; an enum as the index of its value, a set as a
bit mask. They fall into the cells of the reference window: quantiles of a number, the values of anything else, and one
cell more for what is missing. Counts of cells add up with `+`, so that parts, shards and days are counted apart.

PSI, the population stability index: Σ (p − q)(ln p − ln q) over the cells that are not empty in both, each with half a
count more, of counts that add up to the sample size that counts. Between samples of n and m from one distribution over
b cells it is about (1/n + 1/m) times a chi-square of b − 1 degrees, and (b − 1)(1/n + 1/m) on average: near p = q each
term is (p − q)²/p, as of Pearson's test (B. Yurdakul, Statistical Properties of Population Stability Index, 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import chi2, f

QUANTILES = 10
MOST_VALUES = 50
"""How many values of a category have a cell of their own; the rarer share one."""

DEFAULT_PSI = 0.2
"""What a feature without history may move, by the custom of the trade; half of it is worth a look."""
LEAST_PSI = 0.005
"""What moves less changes no model: a number that grew by 8 %, say."""
FALSE_ALARMS = 0.01
"""The chance that a report of features that did not move names any of them."""
ENOUGH_HISTORY = 3
"""So many earlier moves, and the history of a feature says what is usual."""
SAME_PEOPLE = 0.7
"""The part of the degrees that a history has: between windows of the same people, cells move together."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """How the values of a feature fall into cells; the last is for the missing, the one before for what is above, or
    not among, the marks."""

    marks: np.ndarray
    """float64, ascending: upper bounds of intervals, or values."""
    by_value: bool

    @classmethod
    def of(cls, values: np.ndarray, *, by_value: bool) -> "Cells":
        """The cells of a reference window. A value that is a quantile several times over becomes one bound; of numbers
        with few values, each has a cell."""
        known = values[np.isfinite(values)]
        if by_value:
            found, counts = np.unique(known, return_counts=True)
            return cls(np.sort(found[np.argsort(-counts, kind="stable")[:MOST_VALUES]]), True)
        known.sort()
        distinct = known[np.flatnonzero(np.diff(known, prepend=-np.inf))]
        if len(distinct) > QUANTILES:
            bounds = np.unique(known[np.arange(1, QUANTILES) * len(known) // QUANTILES])
        else:
            bounds = distinct
        if len(bounds) and bounds[0] == known[0]:  # a heap at the bottom: what falls below it must not hide in it
            bounds = np.concatenate([[np.nextafter(bounds[0], -np.inf)], bounds])
        return cls(bounds, False)

    def place(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The number of each value's cell, from 0 to `len(marks) + 1`; `known` says which are finite."""
        at = np.searchsorted(self.marks, values)
        if self.by_value and len(self.marks):
            at[self.marks[np.minimum(at, len(self.marks) - 1)] != values] = len(self.marks)
        at[~known] = len(self.marks) + 1
        return at

    @property
    def has_heap(self) -> bool:
        """Whether the second cell of these intervals holds one value alone, the least of the reference."""
        return not self.by_value and len(self.marks) > 1 and self.marks[0] == np.nextafter(self.marks[1], -np.inf)

    @property
    def center(self) -> float:
        """Sums are of differences from here, so that none loses its digits."""
        return float(self.marks[len(self.marks) // 2]) if len(self.marks) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """One window's values of one feature, counted. Windows of the same `cells` add up with `+`."""

    cells: Cells
    n: np.ndarray
    """int64, one a cell."""
    total: float
    """Of the differences from the cells' center."""
    squares: float
    repeats: float
    """Σ m² over the users of whom there are m values: n where each has one."""

    @classmethod
    def of(cls, cells: Cells, values: np.ndarray, users: np.ndarray | None = None) -> "Counts":
        """Counts `values`; `users` are whole numbers from 0 that say whose they are, where one user has several."""
        known = np.isfinite(values)
        n = np.bincount(cells.place(values, known), minlength=len(cells.marks) + 2)
        apart = np.where(known, values - cells.center, 0.0)
        repeats = len(values) if users is None else (np.bincount(users).astype(float) ** 2).sum()
        return cls(cells, n, float(apart.sum()), float(apart @ apart), float(repeats))

    def __add__(self, other: "Counts") -> "Counts":
        """Of two windows without a user in both. Raises ValueError where their cells differ."""
        if self.cells is not other.cells and not np.array_equal(self.cells.marks, other.cells.marks):
            raise ValueError("Counts of different cells can't be added: count both by the cells of one reference.")
        return Counts(
            self.cells,
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            self.repeats + other.repeats,
        )

    @property
    def rows(self) -> int:
        return int(self.n.sum())

    @property
    def size(self) -> float:
        """The sample size that counts, (Σ m)² / Σ m²: L. Kish's, for values that are the same within a user."""
        return self.rows**2 / self.repeats if self.repeats else 0.0

    @property
    def missing(self) -> float:
        """The share of values that are missing; 0 of none."""
        return float(self.n[-1] / max(self.rows, 1))

    @property
    def mean(self) -> tuple[float, float] | None:
        """Of the values known, and the square of its standard error; None where none is."""
        known = self.rows - int(self.n[-1])
        if not known:
            return None
        apart = self.total / known
        variance = max(self.squares / known - apart**2, 0.0)
        return self.cells.center + apart, variance / max(known * self.size / self.rows, 1.0)

    def unseen_by(self, reference: "Counts") -> float:
        """The share of values that fall into cells which the reference left empty, missing ones aside."""
        return float(self.n[:-1][reference.n[:-1] == 0].sum() / max(self.rows, 1))


def psi(before: Counts, after: Counts) -> float:
    """At least 0, the same both ways, and 0 for equal counts."""
    there = (before.n + after.n) > 0
    p, q = (_smoothed(counts, there) for counts in (before, after))
    return float(((p - q) * (np.log(p) - np.log(q))).sum())


def _smoothed(counts: Counts, there: np.ndarray) -> np.ndarray:
    n = counts.n[there] * (counts.size / counts.rows) + 0.5
    return n / n.sum()


def degrees(before: Counts, after: Counts) -> int:
    """The cells that are not empty in both, less one, and at least 1."""
    return max(int(((before.n + after.n) > 0).sum()) - 1, 1)


def expected(before: Counts, after: Counts) -> float:
    """The PSI to be expected of two samples of one distribution."""
    return degrees(before, after) * (1 / before.size + 1 / after.size)


@dataclass(frozen=True, slots=True)
class Limit:
    """How far something may move, in PSI."""

    psi: float
    watch: float
    """From here it is worth a look: half of the default, or what one that moves as ever exceeds ten times as often."""
    basis: str
    """What says so: "history", "default", or "noise" where the samples are too small for either."""


def limit(before: Counts, after: Counts, earlier: Sequence[Counts], alarms: float) -> Limit:
    """How far a feature may move, such that one which moves as ever goes farther with a chance of `alarms`.

    `earlier`: the windows before both, oldest first. Without a history the default holds, or what sampling alone would
    exceed with that chance. With one, its moves are a multiple of a chi-square, and the next over the mean of k has an
    F distribution of (ν, kν) degrees, of which there are 0.7 (b - 1) by trial: its upper quantile times that mean is
    the limit. The mean grows by the noise that these samples have in excess of those. A short history of few cells
    promises little: it may not allow more than the default, noise, or twice the farthest move seen. Nor is the limit
    below the noise to be expected.
    """
    moves = [(psi(old, new), expected(old, new)) for old, new in pairwise([*earlier, before])]
    free, mean_noise = degrees(before, after), expected(before, after)
    floor = mean_noise / free * float(chi2.isf(alarms, free))
    if len(moves) < ENOUGH_HISTORY:
        return Limit(
            max(DEFAULT_PSI, floor), max(DEFAULT_PSI / 2, floor), "noise" if floor > DEFAULT_PSI else "default"
        )
    usual, usual_noise = np.mean(moves, axis=0).tolist()
    usual += max(mean_noise - usual_noise, 0.0)
    most = max(DEFAULT_PSI, floor, *(2 * move for move, _ in moves))
    least = max(LEAST_PSI, mean_noise)
    tied = SAME_PEOPLE * free
    drifted, watch = (usual * float(f.isf(chance, tied, len(moves) * tied)) for chance in (alarms, 10 * alarms))
    limit = min(max(drifted, least), most)
    return Limit(limit, min(max(watch, least), limit), "noise" if limit == mean_noise else "history")
