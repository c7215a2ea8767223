"""Do predicted probabilities come true? Reliability curves with intervals, and calibration per offer and market.

Bins hold as many decisions each, but never split equal predictions. Each is an `Estimate` of what followed, so that
intervals are clustered by user, and parts of the data add up with `+` where they share their edges: means within bins
are exact, and only the edges are fixed beforehand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import pi, sqrt
from typing import Any

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from evaluation.values.estimators import Estimate, Rows

BINS = 10
LEAST_CONVERSIONS = 200
"""Below this a ratio of predicted to observed conversions moves by more than 14 % by chance alone."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Decisions with about the same prediction; rates are conversions per decision."""

    n: int
    predicted: float
    observed: float
    low: float
    """The 95 % interval of `observed`, clustered by user (Wilson's, for the effective number of decisions)."""
    high: float


@dataclass(frozen=True)
class Reliability:
    """An accumulator over fixed edges; add those of disjoint decisions with `+`."""

    edges: np.ndarray
    """(bins + 1,) ascending; a prediction p is in bin b where edges[b] < p <= edges[b + 1].

    Of folds: its share of the ranking is.
    """
    predicted: tuple[Estimate, ...]
    observed: tuple[Estimate, ...]

    @classmethod
    def of(cls, p: np.ndarray, outcome: np.ndarray, user: np.ndarray, edges: np.ndarray | None = None) -> "Reliability":
        """From (n,) predictions, outcomes (0 or 1) and users; `edges` default to those of this very data."""
        return cls._binned(p, outcome, user, p, equal_edges(p) if edges is None else edges)

    @classmethod
    def of_folds(cls, p: np.ndarray, outcome: np.ndarray, user: np.ndarray, fold: np.ndarray) -> "Reliability":
        """From (n,) cross-fitted predictions: the bins are tenths of each fold's own ranking.

        A fold with few conversions is predicted too high, as the others then hold more of them. Bins over all
        predictions at once would sort decisions by that, and find an error in the truest of models.
        """
        share = np.empty(len(p))
        for rows in (np.flatnonzero(fold == one) for one in np.unique(fold)):
            share[rows] = rankdata(p[rows], method="max") / max(len(rows), 1)
        return cls._binned(p, outcome, user, share, np.linspace(0.0, 1.0, BINS + 1))

    @classmethod
    def _binned(
        cls, p: np.ndarray, outcome: np.ndarray, user: np.ndarray, by: np.ndarray, edges: np.ndarray
    ) -> "Reliability":
        place = np.clip(np.searchsorted(edges, by, side="left") - 1, 0, len(edges) - 2)
        parts = [np.flatnonzero(place == bin) for bin in range(len(edges) - 1)]
        return cls(
            edges,
            tuple(_mean(p[part], user[part]) for part in parts),
            tuple(_mean(outcome[part], user[part]) for part in parts),
        )

    def __add__(self, other: "Reliability") -> "Reliability":
        """Raises ValueError for other edges."""
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("two reliability curves add up only over the same edges")
        return Reliability(
            self.edges,
            tuple(a + b for a, b in zip(self.predicted, other.predicted, strict=True)),
            tuple(a + b for a, b in zip(self.observed, other.observed, strict=True)),
        )

    @property
    def n(self) -> int:
        return sum(one.n for one in self.observed)

    def bins(self, level: float = 0.95) -> tuple[ReliabilityBin, ...]:
        """The bins that hold any decision, by prediction."""
        return tuple(
            ReliabilityBin(seen.n, said.value, seen.value, *rate_interval(seen, level))
            for said, seen in zip(self.predicted, self.observed, strict=True)
            if seen.n
        )

    @property
    def ece(self) -> float | None:
        """Σ (n_b / n) |mean p − mean outcome| (Naeini and others, AAAI 2015); None without decisions."""
        return sum(one.n * abs(one.predicted - one.observed) for one in self.bins()) / self.n if self.n else None

    @property
    def ece_by_chance(self) -> float | None:
        """What `ece` would be on average if every prediction were true: E|N(0, σ)| = σ √(2/π) in each bin."""
        if not self.n:
            return None
        spread = sum(one.n * sqrt(one.predicted * (1 - one.predicted) / one.n) for one in self.bins())
        return sqrt(2 / pi) * spread / self.n


def equal_edges(p: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Edges with about as many predictions between each; fewer where many are equal."""
    if not len(p):
        return np.array([0.0, 1.0])
    inner = np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    inner = np.unique(inner[inner < p.max()])
    return np.concatenate([[-np.inf], inner, [np.inf]])


def rate_interval(seen: Estimate, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a rate for the number of independent decisions that the clustered error amounts to."""
    clusters = len(seen.users)
    if clusters < 2:
        return 0.0, 1.0
    rate = seen.value
    variance = clusters / (clusters - 1) * float((seen.deviations**2).sum())
    n = min(rate * (1 - rate) / variance, float(seen.n)) if variance > 0 and 0 < rate < 1 else float(clusters)
    z = float(student.ppf(0.5 + level / 2, clusters - 1))
    centre, half = rate + z**2 / (2 * n), z * sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))


@dataclass(frozen=True, slots=True)
class CalibrationCell:
    """One offer in one market: what was predicted for it where it was shown, and what followed."""

    offer: str
    market: str
    decisions: int
    conversions: int
    predicted: float
    """Mean prediction."""
    observed: float
    """Conversions per decision."""
    ece: float
    ece_by_chance: float
    """What `ece` would be on average if every prediction were true."""
    ratio: float | None
    """Predicted ÷ observed; None without conversions."""
    ratio_low: float | None
    """Its 95 % interval, clustered by user."""
    ratio_high: float | None

    @property
    def is_shown(self) -> bool:
        """Whether there are enough conversions to judge the ratio."""
        return self.conversions >= LEAST_CONVERSIONS and self.ratio is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> "CalibrationCell":
        return cls(**obj)


def calibration_cells(
    p: np.ndarray,
    outcome: np.ndarray,
    user: np.ndarray,
    offer: Sequence[str] | np.ndarray,
    market: Sequence[str] | np.ndarray,
    fold: np.ndarray | None = None,
) -> tuple[CalibrationCell, ...]:
    """Calibration per offer and market, sorted, of (n,) predictions for what was shown, cross-fitted over `fold`.

    Without `fold`, predictions that learned from none of this data.
    `outcome` is 0 or 1; without markets give the same one everywhere. Cells nobody was in are left out.
    """
    offers, offer_codes = np.unique(np.asarray(offer, dtype=str), return_inverse=True)
    markets, market_codes = np.unique(np.asarray(market, dtype=str), return_inverse=True)
    fold = np.zeros(len(p), int) if fold is None else fold
    cells = []
    for (a, name), (m, where) in product(enumerate(offers), enumerate(markets)):
        mine = np.flatnonzero((offer_codes == a) & (market_codes == m))
        if len(mine):
            cells.append(_cell(str(name), str(where), p[mine], outcome[mine], user[mine], fold[mine]))
    return tuple(cells)


def _cell(
    offer: str, market: str, p: np.ndarray, outcome: np.ndarray, user: np.ndarray, fold: np.ndarray
) -> CalibrationCell:
    curve = Reliability.of_folds(p, outcome, user, fold)
    conversions = int(outcome.sum())
    ratio = low = high = None
    if conversions:
        found = Estimate.of(_rows(p, user), p, outcome)
        ratio = found.value
        low, high = found.interval() if len(found.users) > 1 else (None, None)
        low = None if low is None else max(0.0, low)
    return CalibrationCell(
        offer, market, len(p), conversions, float(p.mean()), float(outcome.mean()),
        float(curve.ece or 0.0), float(curve.ece_by_chance or 0.0), ratio, low, high,
    )  # fmt: skip


def _mean(values: np.ndarray, user: np.ndarray) -> Estimate:
    return Estimate.of(_rows(values, user), values, np.ones(len(values)))


def _rows(values: np.ndarray, user: np.ndarray) -> Rows:
    values = np.asarray(values, float)
    return Rows(user, values, np.ones(len(values)), values, values)
