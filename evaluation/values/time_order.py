"""Would it have worked? Fitted on what was known at a moment, judged by what was decided after it.

Folds by user mix all times, so a world that moves is judged by its own future. This check doesn't: the training part
are the decisions whose windows had closed by the time that 70 % of all had been made, the test part those that came
after. It is one split and weaker evidence than all folds together: it warns of drift, beside the paired difference.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.labels.logged import Logged
from evaluation.values.arm_means import table
from evaluation.values.crossfit import CrossFit, expected, shrunk
from evaluation.values.estimators import Estimate, Rows, difference, dr
from evaluation.values.policy_choice import chosen

SHARE = 0.7
"""Of the decisions, in order of time, that come before the cut."""
LEAST_TRAINED = 0.3
"""Of the decisions, whose windows must have closed by then: with fewer, the split says little of the whole."""


@dataclass(frozen=True, slots=True)
class TimeOrdered:
    """The policy trained before the cut less the best single offer of that time, on the decisions after it."""

    cut: float
    trained: int
    judged: int
    shrinkage: float
    """λ as it would have been chosen then."""
    diff: float
    diff_low: float
    diff_high: float
    diff_lower: float
    """The one-sided 95 % lower bound."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def time_ordered(fits: CrossFit, again: Callable[[Logged], CrossFit]) -> TimeOrdered | str:
    """Fit anew on the first part (`again` makes its folds) and judge on the rest; or why that can't be shown."""
    logged = fits.logged
    if logged.at is None or logged.closed is None:
        return "not shown: the decisions have no times"
    cut = float(np.quantile(logged.at, SHARE))
    before, after = np.flatnonzero(logged.closed <= cut), np.flatnonzero(logged.at > cut)
    if len(before) < LEAST_TRAINED * logged.n or not len(after):
        return "not shown: the decisions span too little time beside their windows"
    taught = logged.conversion[before]
    if taught.min() == taught.max():
        return "not shown: the earlier decisions have conversions of one kind only"
    earlier = again(logged.take(before))
    predictor, found = earlier.final()
    raw, means = fits.scores(predictor, after), table(found.means, logged)[logged.surface[after]]
    q = expected(raw, means, found.calibration) * logged.net
    p = shrunk(raw, means, found.calibration, found.shrinkage)
    ours, best = (_estimate(logged, after, chosen(logged, after, rates), q) for rates in (p, means))
    lacking = ours.lacking() or best.lacking()
    if lacking is not None:
        return f"not shown: {lacking}"
    paired = difference(ours, best)
    low, high = (float(end) for end in paired.interval())
    return TimeOrdered(cut, len(before), len(after), found.shrinkage, paired.value, low, high, float(paired.lower()))


def _estimate(logged: Logged, rows: np.ndarray, choice: np.ndarray, q: np.ndarray) -> Estimate:
    at, action = np.arange(len(rows)), logged.action[rows]
    weight = (choice == action) / logged.probability[rows]
    seen = Rows(logged.user[rows], logged.reward[rows], weight, q[at, action], q[at, choice])
    return Estimate.of(seen, *dr(seen))
