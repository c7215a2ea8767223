"""Do the logged probabilities of a table add up? Two sums that hold whatever the policy was, and need no more than `p`.

`log_checks` asks more of our own log, which holds the whole policy; anyone's tables hold the chance of what was shown.

* An offer k has a chance on a decision or has none: E[1{A = k} / p] is at most 1. More, and it was shown more often
  than its probabilities allow.
* Where p < 1 something else had a chance too, so at least two had one: E[1 / p] is at least 2. Less, and the rest was
  shown less often than its probabilities promise.
"""

import numpy as np

from decisioning.errors import UserError
from evaluation.labels.logged import Logged

LEAST_Z, LEAST_SHARE = 6.0, 0.05
"""How far off a sum must be: in standard errors, clustered by user (trials assign users, not decisions), and in all."""
ADVICE = "`probability` must be the chance that the logging policy gave to what it showed, there and then."


def check_probabilities(logged: Logged) -> None:
    """Raises UserError for probabilities that can't be those that the log was drawn with."""
    for arm, name in enumerate(logged.arms):
        rows = np.flatnonzero(logged.eligible[:, arm])
        shown = logged.action[rows] == arm
        if not shown.any():
            continue
        excess = np.where(shown, 1.0 / logged.probability[rows], 0.0) - 1.0
        if _is_off(excess.sum(), np.abs(np.bincount(logged.user[rows], weights=excess)), len(rows)):
            usual = shown.sum() / (1.0 / logged.probability[rows[shown]]).sum()
            raise UserError(
                f"{name} was shown in {shown.mean():.1%} of {len(rows):,} decisions that could show it, and by their "
                f"probabilities it has a chance of about {usual:.1%}: they don't add up. {ADVICE}"
            )
    rows = np.flatnonzero(logged.probability < 1.0 - 1e-9)
    p = logged.probability[rows]
    spread = np.sqrt(np.maximum(1.0 / p + 1.0 / (1.0 - p) - 4.0, 0.0))  # of 1/p, where two had a chance
    lacking = (2.0 - 1.0 / p).sum()
    if len(rows) and _is_off(lacking, np.bincount(logged.user[rows], weights=spread), len(rows)):
        raise UserError(
            f"The probabilities of {len(rows):,} decisions don't add up: they leave chances for other offers, which "
            f"were shown far less often than that. {ADVICE}"
        )


def _is_off(total: float, by_user: np.ndarray, n: int) -> bool:
    return bool(total > LEAST_SHARE * n and total > LEAST_Z * np.sqrt((by_user**2).sum()))
