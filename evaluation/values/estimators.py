"""Off-policy estimators: what a policy would have earned, from logs of another one with known probabilities.

Every estimator is a function from rows to (x, d) per row; its value is Σ x / Σ d, so that means (d = 1) and ratios
(d = w) share one accumulator, one interval clustered by user and one paired difference. Formulas: IPS (Horvitz and
Thompson 1952), SNIPS (Swaminathan and Joachims 2015), DR (Dudík and others 2011), Switch-DR (Wang and others 2017),
DRos (Su and others 2020). Gate on `dr` alone; the clipped ones may rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import hypot, sqrt

import numpy as np
from scipy.stats import t as student

from evaluation.values.shared_folds import Without, added, between

LEAST_ESS, MOST_WEIGHT, LEAST_POSITIVES = 1_000.0, 200.0, 10
RULE_OF_THREE = 3.0
"""Nothing seen in n tries: with 95 % confidence the rate is at most 3 / n (Hanley and Lippman-Hand, JAMA 1983)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """n logged decisions as one policy sees them; all arrays have shape (n,)."""

    user: np.ndarray
    """Cluster ids, integers."""
    reward: np.ndarray
    weight: np.ndarray
    """w = π_e(a|x) / π_b(a|x) of the logged action."""
    q_logged: np.ndarray
    """q̂(x, a) of the logged action, from a model that was not fitted on the row."""
    dm: np.ndarray
    """Σ_a π_e(a|x) q̂(x, a)."""
    without: Without | None = None
    """For a cross-fitted policy: as it would be had it learned from one fold less. See `shared_folds`."""

    def take(self, rows: np.ndarray) -> "Rows":
        """Some of them, by index or mask."""
        parts = (self.user[rows], self.reward[rows], self.weight[rows], self.q_logged[rows], self.dm[rows])
        return Rows(*parts, None if self.without is None else self.without.take(rows))


def ips(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """mean(w r)"""
    return rows.weight * rows.reward, np.ones(len(rows.reward))


def snips(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Σ w r / Σ w"""
    return rows.weight * rows.reward, rows.weight


def dm(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """mean(Σ_a π_e(a|x) q̂(x, a))"""
    return rows.dm, np.ones(len(rows.reward))


def dr(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """mean(DM + w (r − q̂))"""
    return rows.dm + rows.weight * (rows.reward - rows.q_logged), np.ones(len(rows.reward))


def switch_dr(rows: Rows, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """DR without the correction where w > limit."""
    kept = np.where(rows.weight <= limit, rows.weight, 0.0)
    return rows.dm + kept * (rows.reward - rows.q_logged), np.ones(len(rows.reward))


def dros(rows: Rows, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """DR with λ w / (w² + λ) for w."""
    shrunk = shrink * rows.weight / (rows.weight**2 + shrink)
    return rows.dm + shrunk * (rows.reward - rows.q_logged), np.ones(len(rows.reward))


SWITCH_LIMIT, DROS_SHRINK = 10.0, 100.0
"""λ of Switch-DR (a weight) and of DRos (a square of weights) in tables: both hold weights to about ten and below."""

Terms = Callable[[Rows], tuple[np.ndarray, np.ndarray]]
ESTIMATORS: Mapping[str, Terms] = {
    "dr": dr,
    "snips": snips,
    "ips": ips,
    "dm": dm,
    "switch_dr": partial(switch_dr, limit=SWITCH_LIMIT),
    "dros": partial(dros, shrink=DROS_SHRINK),
}
RANKING_ONLY = ("dm", "switch_dr", "dros")
"""They trade bias for variance, and their intervals don't know of the bias: they may rank candidates, never gate."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An accumulator: add two of disjoint rows with `+`, in any order; users may appear in both."""

    users: np.ndarray
    """(C,) sorted."""
    sums: np.ndarray
    """(C, 2): Σ x and Σ d of each user."""
    n: int
    weight: float
    weight_squares: float
    weight_max: float
    positives: int
    """Rows with a reward that the policy matches (w > 0)."""
    scale: float
    """The largest |reward| seen."""
    shifts: np.ndarray | None = None
    """(K, K, 2): Σ x and Σ d in fold f, less the same by the policy that did not learn from fold g."""

    @classmethod
    def by(cls, terms: "Terms", rows: Rows) -> "Estimate":
        """With what the folds owe one another, where the rows know it."""
        x, d = terms(rows)
        found, without = cls.of(rows, x, d), rows.without
        if without is None:
            return found
        shifts = np.empty((without.folds, without.folds, 2))
        for left_out in range(without.folds):
            other = Rows(rows.user, rows.reward, without.weight[:, left_out], rows.q_logged, without.dm[:, left_out])
            for part, (mine, theirs) in enumerate(zip((x, d), terms(other), strict=True)):
                shifts[:, left_out, part] = np.bincount(without.fold, mine - theirs, without.folds)
        return replace(found, shifts=shifts)

    @classmethod
    def of(cls, rows: Rows, x: np.ndarray, d: np.ndarray) -> "Estimate":
        users, sums = _by_user(rows.user, np.column_stack([x, d]))
        w, r = rows.weight, rows.reward
        return cls(
            users,
            sums,
            n=len(r),
            weight=float(w.sum()),
            weight_squares=float((w**2).sum()),
            weight_max=float(w.max(initial=0.0)),
            positives=int(((r != 0) & (w > 0)).sum()),
            scale=float(np.abs(r).max(initial=0.0)),
        )

    def __add__(self, other: "Estimate") -> "Estimate":
        users, sums = _by_user(np.concatenate([self.users, other.users]), np.concatenate([self.sums, other.sums]))
        return Estimate(
            users,
            sums,
            self.n + other.n,
            self.weight + other.weight,
            self.weight_squares + other.weight_squares,
            max(self.weight_max, other.weight_max),
            self.positives + other.positives,
            max(self.scale, other.scale),
            added(self.shifts, other.shifts),
        )

    @property
    def value(self) -> float:
        """NaN where no logged action is one that the policy could take."""
        x, d = self.sums.sum(axis=0)
        return float(x / d) if d else float("nan")

    @property
    def ess(self) -> float:
        """Effective sample size (Σ w)² / Σ w² (Kish 1965)."""
        return self.weight**2 / self.weight_squares if self.weight_squares else 0.0

    @property
    def deviations(self) -> np.ndarray:
        """(C,) each user's linearised deviation from the value; they sum to 0."""
        total = self.sums[:, 1].sum()
        return (self.sums[:, 0] - self.value * self.sums[:, 1]) / total if total else np.full(len(self.users), np.nan)

    @property
    def shift(self) -> np.ndarray | None:
        """(K, K) by how much the value changes in fold f where the policy leaves fold g out; None where not known."""
        total = self.sums[:, 1].sum()
        if self.shifts is None or not total:
            return None
        return (self.shifts[..., 0] - self.value * self.shifts[..., 1]) / total

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        half = half_width(self.deviations, self.scale, level, between(self.shift))
        return self.value - half, self.value + half

    def lacking(self) -> str | None:
        """Why this is not enough to say anything, or None."""
        if self.ess < LEAST_ESS:
            return f"not enough support: effective sample size {self.ess:,.0f}, needs {LEAST_ESS:,.0f}"
        if self.weight_max > MOST_WEIGHT:
            return f"not enough support: the largest weight is {self.weight_max:,.0f}, at most {MOST_WEIGHT:,.0f}"
        if self.positives < LEAST_POSITIVES:
            return f"not enough support: {self.positives} matched positives, needs {LEAST_POSITIVES}"
        return None


@dataclass(frozen=True, slots=True)
class Difference:
    """A policy's value minus another's on the same decisions, paired by user."""

    value: float
    deviations: np.ndarray
    scale: float
    between: float = 0.0
    """The variance that comes of folds having learned from one another, as estimated: it may be below 0."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        half = half_width(self.deviations, self.scale, level, self.between)
        return self.value - half, self.value + half

    def lower(self, level: float = 0.95) -> float:
        """The one-sided lower bound: the lower end of the two-sided interval at level 2 level − 1."""
        return self.interval(2 * level - 1)[0]


def difference(one: Estimate, other: Estimate) -> Difference:
    """`one` minus `other`. Both must come from the same decisions; raises ValueError otherwise."""
    if one.n != other.n or not np.array_equal(one.users, other.users):
        raise ValueError("a paired difference needs two estimates over the same decisions")
    owed = between(added(one.shift, other.shift, -1.0))
    return Difference(one.value - other.value, one.deviations - other.deviations, max(one.scale, other.scale), owed)


def half_width(deviations: np.ndarray, scale: float, level: float, between: float = 0.0) -> float:
    """Student's t times the standard error clustered by user, and never less than the rule of three allows.

    `between` is a variance to add, where positive. Two policies that agree on all n users seen may still differ on 3/n
    of those unseen, each by the largest |reward|.
    """
    clusters = len(deviations)
    if clusters < 2:
        return float("inf")
    floor = RULE_OF_THREE / clusters * (scale or 1.0)
    quantile = float(student.ppf(0.5 + level / 2, clusters - 1))
    return max(quantile * hypot(standard_error(deviations), sqrt(max(0.0, between))), floor)


def standard_error(deviations: np.ndarray) -> float:
    """√(C / (C − 1) Σ e²) over the C users' deviations (Liang and Zeger 1986)."""
    clusters = len(deviations)
    return sqrt(clusters / (clusters - 1) * float((deviations**2).sum())) if clusters > 1 else float("inf")


def _by_user(user: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The users, sorted, and the sums of their rows."""
    if not len(user):
        return np.zeros(0, np.intp), np.zeros((0, columns.shape[1]))
    if user.min() >= 0 and user.max() < 4 * len(user):  # ids are close together: no need to sort
        users = np.flatnonzero(np.bincount(user))
        return users, np.column_stack([np.bincount(user, weights=column)[users] for column in columns.T])
    users, codes = np.unique(user, return_inverse=True)
    return users, np.column_stack([np.bincount(codes, weights=column) for column in columns.T])
