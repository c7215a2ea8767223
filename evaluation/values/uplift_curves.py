"""Does a model find those who gain from an offer? Qini curves, and the uplift among the three tenths ranked first.

Decisions are ranked by predicted gain of a treatment over a control. What was really gained follows from the logged
probabilities: each decision is worth g (r − mean r), with g = 1{a = treatment} / p − 1{a = control} / p, so that no
decision's outcome under both need be known (Radcliffe 2007, weighted as in Sverdrup and others 2024). Every figure is
linear in these terms for a given ranking, hence analytic intervals, clustered by user.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from scipy.stats import rankdata

from decisioning.domain import NOTHING
from evaluation.values.estimators import LEAST_ESS, LEAST_POSITIVES, MOST_WEIGHT, Difference
from evaluation.values.judged import MOST_ARMS_SHOWN, REFERENCE, Judged
from evaluation.values.policy_choice import chosen

BINS, POINTS, TOP = 60, 20, 0.3
LEARNER = "the learner's choice"


@dataclass(frozen=True)
class UpliftCurve:
    """An accumulator over fixed edges of predicted gain; add those of disjoint decisions with `+`.

    A rank is known to within its bin: equal predictions, and with the default edges predictions within 1/60 of the
    decisions, count as in random order. Sums are exact.
    """

    edges: np.ndarray
    """(bins + 1,) ascending; a gain d is in bin b where edges[b] < d <= edges[b + 1]."""
    keys: np.ndarray
    """(K,) sorted: user × bins + bin."""
    sums: np.ndarray
    """(K, 3): Σ g r, Σ g, and decisions."""
    reward: float
    """Σ r."""
    arms: np.ndarray
    """(2, 4) of treatment and control: Σ w, Σ w², the largest w, and rows with a reward."""
    scale: float
    """The largest |reward|."""

    @classmethod
    def of(
        cls,
        predicted: np.ndarray,
        treated: np.ndarray,
        control: np.ndarray,
        reward: np.ndarray,
        user: np.ndarray,
        edges: np.ndarray | None = None,
    ) -> "UpliftCurve":
        """From (n,) predicted gains, the weights 1{a = treatment} / p and 1{a = control} / p, rewards and users."""
        edges = gain_edges(predicted) if edges is None else edges
        bins = len(edges) - 1
        place = np.clip(np.searchsorted(edges, predicted, side="left") - 1, 0, bins - 1)
        g = treated - control
        arms = [
            [w.sum(), (w**2).sum(), w.max(initial=0.0), ((w > 0) & (reward != 0)).sum()] for w in (treated, control)
        ]
        keys, sums = _summed(user.astype(np.int64) * bins + place, np.column_stack([g * reward, g, np.ones(len(g))]))
        return cls(edges, keys, sums, float(reward.sum()), np.array(arms), float(np.abs(reward).max(initial=0.0)))

    def __add__(self, other: "UpliftCurve") -> "UpliftCurve":
        """Raises ValueError for other edges."""
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("two uplift curves add up only over the same edges")
        keys, sums = _summed(np.concatenate([self.keys, other.keys]), np.concatenate([self.sums, other.sums]))
        arms = self.arms + other.arms
        arms[:, 2] = np.maximum(self.arms[:, 2], other.arms[:, 2])
        return UpliftCurve(self.edges, keys, sums, self.reward + other.reward, arms, max(self.scale, other.scale))

    @property
    def n(self) -> int:
        return int(self.sums[:, 2].sum())

    @cached_property
    def _terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """(K,) bins, (K,) Σ g (r − mean r), (K,) codes of the users, and how many those are."""
        users, codes = np.unique(self.keys // self._bins, return_inverse=True)
        gained = self.sums[:, 0] - (self.reward / max(self.n, 1)) * self.sums[:, 1]
        return self.keys % self._bins, gained, codes, len(users)

    @property
    def _bins(self) -> int:
        return len(self.edges) - 1

    @cached_property
    def _held(self) -> np.ndarray:
        """(bins,) decisions."""
        return np.bincount(self.keys % self._bins, weights=self.sums[:, 2], minlength=self._bins)

    def lacking(self) -> str | None:
        """Why this is not enough to say anything, or None."""
        if (self._held > 0).sum() < 2:
            return "the predicted gain is the same everywhere: there is no order to judge"
        if self.arms[:, 3].sum() < LEAST_POSITIVES:
            return f"not enough support: {int(self.arms[:, 3].sum())} matched positives, needs {LEAST_POSITIVES}"
        for name, (weight, squares, largest, _) in zip(("treatment", "control"), self.arms, strict=True):
            ess = weight**2 / squares if squares else 0.0
            if ess < LEAST_ESS:
                return f"not enough support: the {name}'s effective sample size is {ess:,.0f}, needs {LEAST_ESS:,.0f}"
            if largest > MOST_WEIGHT:
                return f"not enough support: the {name}'s largest weight is {largest:,.0f}, at most {MOST_WEIGHT:,.0f}"
        return None

    def weighted(self, weights: np.ndarray) -> Difference:
        """(1/n) Σ weights[bin] g (r − mean r), with its deviations by user; `weights` is (bins,)."""
        bins, gained, codes, users = self._terms
        x = np.bincount(codes, weights=weights[bins] * gained, minlength=users)
        held = np.bincount(codes, weights=self.sums[:, 2], minlength=users)
        value = float(x.sum()) / self.n
        return Difference(value, (x - value * held) / self.n, self.scale)

    def within(self, share: float) -> np.ndarray:
        """(bins,) how much of each bin is among the `share` of decisions that are ranked first."""
        behind = self._held[::-1].cumsum()[::-1]  # the decisions of a bin and of all that rank before it
        before = behind - self._held
        return np.clip((share * self.n - before) / np.maximum(self._held, 1), 0.0, 1.0)

    def gain(self, share: float) -> Difference:
        """Per decision, what treating the first `share` gains over treating nobody: a point of the curve."""
        return self.weighted(self.within(share))

    def uplift(self, share: float = TOP) -> Difference:
        """What a decision among the first `share` gains by treatment."""
        return self.weighted(self.within(share) / share)

    def beyond_random(self, share: float = TOP) -> Difference:
        """`uplift` less what it is in random order, which is what treating everybody gains."""
        return self.weighted(self.within(share) / share - 1.0)

    def qini(self) -> Difference:
        """The area between the curve and the straight line of random order, in rewards per decision."""
        behind = self._held[::-1].cumsum()[::-1]
        middle = (behind - self._held / 2) / self.n
        return self.weighted(0.5 - middle)


def gain_edges(predicted: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Edges with about as many predictions between each; fewer where many are equal."""
    if not len(predicted):
        return np.array([-np.inf, np.inf])
    inner = np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return np.concatenate([[-np.inf], np.unique(inner[inner < predicted.max()]), [np.inf]])


def uplift_records(judged: Judged, seed: int = 0) -> list[dict[str, Any]]:
    """The learner's choice against the control, then each arm where there are few, as JSON.

    The ranking is the learner's own, cross-fitted and before shrinkage. The control is NOTHING where it was logged,
    else the best single offer. "shuffled" is the same with treatments dealt anew among the decisions: about 0.
    """
    return [_record(judged, *one, np.random.default_rng(seed)) for one in _comparisons(judged)]


def _comparisons(judged: Judged) -> Iterator[tuple[str, np.ndarray, str, np.ndarray]]:
    """Names and arms (n,) of treatment and control."""
    logged = judged.logged
    if logged.nothing is not None:
        name, control = NOTHING, np.full(logged.n, logged.nothing)
    else:
        name, control = REFERENCE, judged.choices[REFERENCE]
    yield LEARNER, chosen(logged, np.arange(logged.n), judged.q), name, control
    if len(logged.arms) <= MOST_ARMS_SHOWN:
        for arm, treatment in enumerate(logged.arms):
            if treatment != NOTHING:
                yield treatment, np.full(logged.n, arm), name, control


def _record(
    judged: Judged, treatment: str, choice: np.ndarray, control: str, other: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    logged = judged.logged
    at = np.arange(logged.n)
    rows = np.flatnonzero(logged.eligible[at, choice] & logged.eligible[at, other])
    reward, q = judged.outcome(judged.objective)
    predicted = ranks((q[at, choice] - q[at, other])[rows], judged.fits.fold[rows])
    weights = [((arm == logged.action) / logged.probability)[rows] for arm in (choice, other)]
    curve = UpliftCurve.of(predicted, *weights, reward[rows], logged.user[rows])
    record = {"treatment": treatment, "control": control, "outcome": judged.objective, "decisions": len(rows)}
    note = curve.lacking()
    if note is None:
        dealt = rng.permutation(len(rows))
        shuffled = UpliftCurve.of(predicted, *(w[dealt] for w in weights), reward[rows], logged.user[rows])
        figures = _figures(curve) | {"shuffled": interval_json(shuffled.qini())}
        if _finite(figures):
            return record | {"note": None} | figures
        note = "its intervals can't be bounded"
    return record | {"note": note}


def ranks(predicted: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) each decision's place in its own fold, in (0, 1); equal predictions share one.

    Means fitted without a fold are high where the fold's own is low: to rank folds against each other would take that
    for an order, and a bad one.
    """
    places = np.empty(len(predicted))
    for one in np.unique(fold):
        mine = fold == one
        places[mine] = (rankdata(predicted[mine]) - 0.5) / mine.sum()
    return places


def _figures(curve: UpliftCurve) -> dict[str, Any]:
    points = [
        {"share": share, **interval_json(curve.gain(share))} for share in np.linspace(0, 1, POINTS + 1)[1:].tolist()
    ]
    return {
        "qini": interval_json(curve.qini()),
        "top": TOP,
        "uplift_top": interval_json(curve.uplift()),
        "uplift_random": interval_json(curve.gain(1.0)),
        "uplift_beyond_random": interval_json(curve.beyond_random()),
        "points": points,
    }


def interval_json(found: Difference) -> dict[str, float]:
    low, high = found.interval()
    return {"value": found.value, "low": low, "high": high}


def _finite(found: Any) -> bool:
    if isinstance(found, dict | list):
        return all(map(_finite, found.values() if isinstance(found, dict) else found))
    return not isinstance(found, float) or isfinite(found)


def _summed(keys: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, codes = np.unique(keys, return_inverse=True)
    if not len(found):
        return found, np.zeros((0, columns.shape[1]))
    return found, np.column_stack([np.bincount(codes, weights=column) for column in columns.T])
