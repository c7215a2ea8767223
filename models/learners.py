"""Learners by name: what `learner = "…"` in a training config may say. Offline only.

Each learns p(conversion | context, offer) from a Sample and gives a Predictor that serves it with numpy alone. A new
one is a module in `models/fitting` with a function of `Fit`'s signature, a line here, a test and a config.
"""

from collections.abc import Mapping
from typing import NamedTuple

from decisioning.errors import UserError
from models.encoding import Encoding
from models.fitting import boosting, constant, dr_learner, logistic, pooled, t_learner
from models.fitting.constant import fit_constant
from models.fitting.dr_learner import fit_dr_learner
from models.fitting.lightgbm import fit_lightgbm
from models.fitting.logistic import fit_logistic
from models.fitting.pooled import fit_pooled
from models.fitting.s_learner import fit_s_learner
from models.fitting.sample import Fit, Params, Sample
from models.fitting.t_learner import fit_t_learner
from models.predictors import Predictor
from models.trees import TreeError

__all__ = ["LEARNERS", "Learner", "Params", "Sample", "fit"]


class Learner(NamedTuple):
    fit: Fit
    defaults: Params
    boosted: bool = False
    """Whether [params] may hold any parameter of LightGBM."""
    monotone: bool = False
    """Whether features may be declared monotone."""
    crosses: bool = False
    """Whether users' features may be crossed with offers' attributes."""
    together: bool = False
    """Whether ranks that hold a part of the rows each can fit one model: see `boosting.joined`."""


LEARNERS: Mapping[str, Learner] = {
    "constant": Learner(fit_constant, constant.DEFAULTS),
    "dr_learner": Learner(fit_dr_learner, dr_learner.DEFAULTS, boosted=True),
    "lightgbm": Learner(fit_lightgbm, boosting.DEFAULTS, boosted=True, monotone=True, crosses=True, together=True),
    "logistic": Learner(fit_logistic, logistic.DEFAULTS),
    "pooled": Learner(fit_pooled, pooled.DEFAULTS),
    "s_learner": Learner(fit_s_learner, boosting.DEFAULTS, boosted=True, monotone=True, together=True),
    "t_learner": Learner(fit_t_learner, t_learner.DEFAULTS, boosted=True, monotone=True),
}


def fit(
    learner: str,
    encoding: Encoding,
    sample: Sample,
    params: Params,
    seed: int,
    monotone: Mapping[str, int] | None = None,
) -> Predictor:
    """Fit by name. `params` override the learner's defaults; `monotone` says which numbers p may only rise (+1) or
    fall (−1) with. Raises UserError for a name, parameter or constraint that the learner doesn't have, and for what
    can't be served."""
    if learner not in LEARNERS:
        raise UserError(f"There is no learner {learner!r}. Choose one of: {', '.join(sorted(LEARNERS))}.")
    found = LEARNERS[learner]
    unknown = sorted(set(params) - set(found.defaults))
    if unknown and not found.boosted:
        has = ", ".join(sorted(found.defaults)) or "none"
        raise UserError(f"The learner {learner} has no parameter {', '.join(unknown)}. It has: {has}.")
    if monotone and not found.monotone:
        able = ", ".join(sorted(name for name, one in LEARNERS.items() if one.monotone))
        raise UserError(f"The learner {learner} can't hold a feature monotone: take [monotone] out, or use {able}.")
    if encoding.crosses and not found.crosses:
        able = ", ".join(sorted(name for name, one in LEARNERS.items() if one.crosses))
        raise UserError(
            f"The learner {learner} knows no crosses of users and offers: take `crosses` out, or use {able}."
        )
    try:
        return found.fit(encoding, sample, {**found.defaults, **params}, seed, monotone or {})
    except TreeError as error:
        raise UserError(f"What the learner {learner} fitted can't be served: {error}. Check the config.") from None
