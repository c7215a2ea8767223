"""Log loss on decisions that a fit has not seen: what parameters are searched by, and judged by in the end.

Of what was shown alone, as outcomes are known of nothing else, and calibrated as the model will be. It is far less
noisy than the value of a policy: a search by that would keep the luckiest trial, not the best.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluation.labels.logged import Logged
from evaluation.values.lessons import UNSCORED, Folds, folds_of, lessons
from models.encoding import Encoding
from models.fitting.calibrating import fit_calibration
from models.fitting.sample import Sample
from models.predictors import Predictor
from scaling.search import Value
from training.config import Config
from training.fitting import Fitting

LEAST_P = 1e-9


@dataclass(frozen=True)
class Searched:
    """A search's task: the cross-fitted log loss of a configuration with other parameters."""

    config: Config
    encoding: Encoding
    folds: Folds
    seed: int

    def __call__(self) -> Callable[[Mapping[str, Value]], float]:
        return lambda params: float(cross_fitted(self.fitting(params), self.folds).mean())

    def fitting(self, params: Mapping[str, Value]) -> Fitting:
        config = replace(self.config, params={**self.config.params, **params})
        return Fitting(config, self.encoding, self.seed)


def scored(logged: Logged, encoding: Encoding, folds: int, seed: int) -> tuple[Folds, np.ndarray]:
    """The matured decisions that showed an arm which the model scores, in folds by user; and their users."""
    every = lessons(replace(logged, fresh=None), encoding)
    rows = np.flatnonzero(every.offers != UNSCORED)
    fold = folds_of(replace(logged, fresh=None), folds, seed)
    return Folds(every.take(rows).apart(), fold[rows]), logged.user[rows]


def cross_fitted(fitting: Fitting, folds: Folds) -> np.ndarray:
    """(rows,) the loss of each row, by a fit and a calibration that left out its fold."""
    raw, sample = _raw(fitting, folds), folds.lessons
    losses = np.empty(sample.n)
    for fold in np.unique(folds.fold):
        mine, others = np.flatnonzero(folds.fold == fold), np.flatnonzero(folds.fold != fold)
        losses[mine] = _losses(fitting, raw[others], sample.take(others), raw[mine], sample.take(mine))
    return losses


def unseen(fitting: Fitting, folds: Folds, held: Sample) -> np.ndarray:
    """(held.n,) the loss on rows that are in no fold, by a fit on all folds."""
    predictor = fitting(folds.part(()))
    return _losses(fitting, _raw(fitting, folds), folds.lessons, _shown(predictor, held), held)


def _raw(fitting: Fitting, folds: Folds) -> np.ndarray:
    """(rows,) cross-fitted raw log-odds of what was shown; NaN where the learner says nothing of it."""
    raw = np.empty(folds.lessons.n)
    for fold in np.unique(folds.fold):
        mine = np.flatnonzero(folds.fold == fold)
        raw[mine] = _shown(fitting(folds.part({int(fold)})), folds.lessons.take(mine))
    return raw


def _shown(predictor: Predictor, sample: Sample) -> np.ndarray:
    """(n,) raw log-odds of what was shown."""
    raw = np.empty(sample.n)
    for offer in np.unique(sample.offers):
        mine = np.flatnonzero(sample.offers == offer)
        raw[mine] = predictor.matrix(sample.contexts[mine], [int(offer)])[:, 0]
    return raw


def _losses(fitting: Fitting, raw: np.ndarray, taught: Sample, asked: np.ndarray, judged: Sample) -> np.ndarray:
    """(judged.n,) log losses, calibrated on `raw` (taught.n,); the offer's rate there where `asked` says nothing."""
    calibration = fit_calibration(fitting.config.calibration, raw, taught.outcome)
    size = len(fitting.encoding.offers)
    shown = np.bincount(taught.offers, minlength=size)
    rate = (np.bincount(taught.offers, taught.outcome, size) + taught.outcome.mean()) / (shown + 1)
    p = np.where(np.isnan(asked), rate[judged.offers], calibration.probabilities(np.nan_to_num(asked)))
    p = np.clip(p, LEAST_P, 1 - LEAST_P)
    return -np.where(judged.outcome > 0, np.log(p), np.log1p(-p))
