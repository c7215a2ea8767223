"""Cross-fitting: every number about a decision comes from models that never saw its user.

The whole procedure of training (learner, calibration, means, shrinkage) runs inside each training part, so that what is
evaluated is what would be deployed. Leaving out pairs of folds gives the inner predictions; fits are kept and shared.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evaluation.labels.logged import Logged
from evaluation.values.arm_means import arm_means, table
from evaluation.values.estimators import RULE_OF_THREE, standard_error
from evaluation.values.lessons import Folds, folds_of, lessons
from evaluation.values.policy_choice import chosen
from models.artifact import Means
from models.calibration import Calibration
from models.encoding import Encoding
from models.fitting.calibrating import fit_calibration
from models.fitting.sample import Sample
from models.predictors import Predictor

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
Fitter = Callable[[Sample], Predictor]
FitAll = Callable[[Folds, Sequence[frozenset[int]]], Iterable[Predictor]]
"""Fits the parts that leave out these folds each, in this order."""


@dataclass(frozen=True)
class Fitted:
    """What training finds out beside the learner itself."""

    means: Means
    calibration: Calibration
    shrinkage: float
    gains: tuple[tuple[float, float, float], ...]
    """For each λ of the grid: λ, its cross-fitted DR value less that of λ = 0, and that difference's standard error.
    Empty where λ was given."""


class CrossFit:
    """Folds by user, and the fits that leave some of them out.

    `encoding` names the arms that the model scores; the others are held at their means.
    """

    def __init__(
        self,
        logged: Logged,
        encoding: Encoding,
        fitter: Fitter,
        *,
        folds: int = 5,
        seed: int = 0,
        calibration: str = "platt",
        shrinkage: float | None = None,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        """`calibration` is one of CALIBRATIONS; a `shrinkage` that is given is taken as it is, and not chosen."""
        self.logged, self.encoding, self.folds = logged, encoding, folds
        self._fitter, self._progress = fitter, progress
        self._calibration, self._shrinkage = calibration, shrinkage
        self._folds = Folds(lessons(logged, encoding), folds_of(logged, folds, seed))
        self.fold, self.contexts = self._folds.fold[: logged.n], self._folds.lessons.contexts[: logged.n]
        self.own = {arm: encoding.index[name] for arm, name in enumerate(logged.arms) if name in encoding.index}
        self._predictors: dict[frozenset[int], Predictor] = {}
        self._raw: dict[tuple[frozenset[int], int], np.ndarray] = {}

    def rows(self, left_out: frozenset[int]) -> np.ndarray:
        """Indices of the matured decisions of the training part."""
        return np.flatnonzero(~np.isin(self.fold, list(left_out)))

    def predictor(self, left_out: frozenset[int]) -> Predictor:
        """The learner fitted on the training part, on the decisions that showed one of its arms."""
        if left_out not in self._predictors:
            self._predictors[left_out] = self._fitter(self._folds.part(left_out))
            self._progress()
        return self._predictors[left_out]

    def fit_ahead(self, fit_all: FitAll, *, pairs: bool = True) -> None:
        """All fits of the whole procedure at once, by whoever can do them side by side.

        Without `pairs`, those alone that `final` takes.
        """
        wanted = [frozenset(out) for size in range(3 if pairs else 2) for out in combinations(range(self.folds), size)]
        for left_out, predictor in zip(wanted, fit_all(self._folds, wanted), strict=True):
            self._predictors[left_out] = predictor
            self._progress()

    @property
    def fits(self) -> int:
        """How many fits the whole procedure takes: `progress` is called after each."""
        return 1 + self.folds + self.folds * (self.folds - 1) // 2

    def raw(self, left_out: frozenset[int], fold: int) -> np.ndarray:
        """(rows of the fold, A) raw log-odds by the fit that left out `left_out`; NaN for arms it doesn't score."""
        key = (left_out, fold)
        if key not in self._raw:
            self._raw[key] = self.scores(self.predictor(left_out), np.flatnonzero(self.fold == fold))
        return self._raw[key]

    def scores(self, predictor: Predictor, rows: np.ndarray) -> np.ndarray:
        """(len(rows), A) float32 raw log-odds of arms that are eligible on the row's surface; NaN for others."""
        out = np.full((len(rows), len(self.logged.arms)), np.nan, np.float32)
        for surface in range(len(self.logged.surfaces)):
            here = np.flatnonzero(self.logged.surface[rows] == surface)
            if len(here) == 0:
                continue
            eligible = self.logged.eligible[rows[here]].any(axis=0)
            arms = [arm for arm in self.own if eligible[arm]]
            out[np.ix_(here, arms)] = predictor.matrix(self.contexts[rows[here]], [self.own[arm] for arm in arms])
        return out

    def fitted(self, left_out: frozenset[int]) -> Fitted:
        """Calibration, means and shrinkage of a training part, by cross-fitting inside it."""
        inner = [fold for fold in range(self.folds) if fold not in left_out]
        rows = np.concatenate([np.flatnonzero(self.fold == fold) for fold in inner])
        raw = np.concatenate([self.raw(left_out | {fold}, fold) for fold in inner])
        means = np.concatenate([self._means(left_out | {fold}, fold) for fold in inner])
        shown = raw[np.arange(len(rows)), self.logged.action[rows]]
        calibration = fit_calibration(self._calibration, shown, self.logged.conversion[rows])
        shrinkage, gains = self._choose(rows, raw, means, calibration)
        return Fitted(arm_means(self.logged, self.rows(left_out)), calibration, shrinkage, gains)

    def _means(self, left_out: frozenset[int], fold: int) -> np.ndarray:
        means = arm_means(self.logged, self.rows(left_out))
        return table(means, self.logged)[self.logged.surface[self.fold == fold]]

    def _choose(
        self, rows: np.ndarray, raw: np.ndarray, means: np.ndarray, calibration: Calibration
    ) -> tuple[float, tuple[tuple[float, float, float], ...]]:
        """λ by the cross-fitted DR value of the policy that it makes, and what each λ of the grid gained."""
        if self._shrinkage is not None:
            return self._shrinkage, ()
        if np.isnan(raw).all():
            return 0.0, tuple((shrinkage, 0.0, 0.0) for shrinkage in GRID[:1])
        q = expected(raw, means, calibration) * self.logged.net
        user = self.logged.user[rows]
        values = [
            doubly_robust(self.logged, rows, chosen(self.logged, rows, shrunk(raw, means, calibration, weight)), q)
            for weight in GRID
        ]
        gains = tuple(
            (weight, float((value - values[0]).mean()), clustered_error(value - values[0], user))
            for weight, value in zip(GRID, values, strict=True)
        )
        return GRID[simplest(values, user, float(np.abs(self.logged.reward).max()))], gains

    def final(self) -> tuple[Predictor, Fitted]:
        """Everything fitted on all the data."""
        nobody: frozenset[int] = frozenset()
        return self.predictor(nobody), self.fitted(nobody)


def simplest(values: Sequence[np.ndarray], user: np.ndarray, scale: float) -> int:
    """The first policy whose value is within one (paired, clustered) standard error of the best one's.

    `values` are each policy's DR terms on the same decisions, simplest policy first; `scale` is the largest |reward|.
    """
    best = values[int(np.argmax([value.mean() for value in values]))]
    near = [(best - value).mean() <= _noise(best - value, user, scale) for value in values]
    return near.index(True)


def expected(raw: np.ndarray, means: np.ndarray, calibration: Calibration) -> np.ndarray:
    """q̂ of a conversion: the learner's calibrated probability, or the mean where it says nothing."""
    return np.where(np.isnan(raw), means, calibration.probabilities(np.nan_to_num(raw)))


def shrunk(raw: np.ndarray, means: np.ndarray, calibration: Calibration, shrinkage: float) -> np.ndarray:
    """p = m + λ (s − m), clipped to [0, 1]."""
    return np.clip(means + shrinkage * (expected(raw, means, calibration) - means), 0.0, 1.0)


def doubly_robust(logged: Logged, rows: np.ndarray, choice: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(len(rows),) DR terms of a deterministic policy on the reward, with q̂ (len(rows), A)."""
    at, action = np.arange(len(rows)), logged.action[rows]
    weight = (choice == action) / logged.probability[rows]
    return q[at, choice] + weight * (logged.reward[rows] - q[at, action])


def clustered_error(values: np.ndarray, user: np.ndarray) -> float:
    """The standard error of the mean of `values`, clustered by user."""
    _, codes = np.unique(user, return_inverse=True)
    return standard_error(np.bincount(codes, weights=values - values.mean()) / len(values))


def _noise(values: np.ndarray, user: np.ndarray, scale: float) -> float:
    """What a mean must exceed to count: one standard error, or the rule of three where hardly any decision differs."""
    return max(clustered_error(values, user), RULE_OF_THREE / len(values) * scale)
