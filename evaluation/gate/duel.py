"""Two policies on the same logged decisions: the rows that estimators read, and the comparison that the gate reads."""

from math import isfinite

import numpy as np

from evaluation.gate.lines import Comparison
from evaluation.values.estimators import Estimate, Rows, difference, dr


def deterministic(
    user: np.ndarray,
    reward: np.ndarray,
    action: np.ndarray,
    probability: np.ndarray,
    choice: np.ndarray,
    q: np.ndarray,
) -> Rows:
    """The rows of a policy that takes `choice` (n,): w = 1[choice = action] / probability. `q` is q̂ (n, A).

    For one that was fixed beforehand: it learned from none of these decisions, so no fold owes another anything.
    """
    at = np.arange(len(action))
    return Rows(user, reward, (choice == action) / probability, q[at, action], q[at, choice])


def compared(
    against: str, outcome: str, mine: Rows, theirs: Rows, *, differing: float | None = None, source: str = ""
) -> Comparison:
    """The paired DR difference of two policies over the same decisions, as the gate reads it.

    With what folds owe one another, where the rows know it (`Rows.without`).
    """
    ours, other = Estimate.by(dr, mine), Estimate.by(dr, theirs)
    paired = difference(ours, other)
    lower = paired.lower()
    return Comparison(
        against,
        outcome,
        value=other.value,
        difference=paired.value,
        lower=lower if isfinite(lower) else None,
        ess=min(ours.ess, other.ess),
        note=ours.lacking() or other.lacking(),
        differing=differing,
        source=source,
    )
