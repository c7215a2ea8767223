"""What a policy would choose, for many logged decisions at once: the engine's rule, elementwise."""

import numpy as np

from decisioning.arbitration import score
from decisioning.domain import NOTHING
from evaluation.labels.logged import Logged


def chosen(logged: Logged, rows: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(len(rows),) the arm with the best score among the eligible ones.

    `p` is (len(rows), A): the probability of a conversion. The score is effect × net value, by priority class first;
    where NOTHING is eligible it scores 0 and wins over all that is worth no more. Ties fall to the first name.
    """
    baseline = p[:, [logged.nothing]] if logged.nothing is not None else 0.0
    scores = score(p - baseline, logged.net[None, :])
    open_to = logged.eligible[rows]
    if NOTHING in logged.arms:
        nothing = logged.arms.index(NOTHING)
        open_to = open_to & ((scores > 0) | ~open_to[:, [nothing]])
        open_to[:, nothing] = False
    else:
        nothing = 0
    if len(set(logged.priority)) > 1:
        priority = np.where(open_to, logged.priority[None, :], -np.inf)
        open_to = open_to & (priority == priority.max(axis=1, keepdims=True))
    best = np.where(open_to, scores, -np.inf).argmax(axis=1)
    return np.where(open_to.any(axis=1), best, nothing)
