"""What cross-fitting says about each logged decision: what the policies would choose there, and what would follow.

Everything here about a decision comes from models that never saw its user.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.labels.labels import NET_VALUE, Logged
from evaluation.values.arm_means import arm_means, table
from evaluation.values.crossfit import CrossFit, Fitted, expected, shrunk
from evaluation.values.estimators import Rows
from evaluation.values.policy_choice import chosen
from evaluation.values.shared_folds import Without

REFERENCE, TRAINED, LOGGING, RANDOM = "best_single_offer", "trained", "logging", "random"
MOST_ARMS_SHOWN = 6
Seen = Callable[[np.ndarray, np.ndarray], Rows]
"""From a reward (n,) and q̂ (n, A) to the rows as a policy sees them."""


@dataclass(frozen=True)
class Judged:
    """n decisions over A arms, cross-fitted."""

    fits: CrossFit
    choices: Mapping[str, np.ndarray]
    """REFERENCE and TRAINED: (n,) the arm that each would show."""
    q: np.ndarray
    """(n, A) q̂ of a conversion: the learner's calibrated probability, or the mean where it has none."""
    p: np.ndarray
    """(n, A) p_convert as served: q̂ shrunk to the mean."""
    shrinkages: tuple[float, ...]
    """λ of each fold."""
    others: Mapping[str, np.ndarray]
    """REFERENCE and TRAINED: (n, K) the arm that each would show had it not learned from fold k either."""

    @property
    def logged(self) -> Logged:
        return self.fits.logged

    @property
    def q_shown(self) -> np.ndarray:
        """(n,) q̂ of the arm that was shown."""
        return self.q[np.arange(self.logged.n), self.logged.action]

    @property
    def p_shown(self) -> np.ndarray:
        """(n,) p_convert, as served, of the arm that was shown."""
        return self.p[np.arange(self.logged.n), self.logged.action]

    @property
    def objective(self) -> str:
        """The outcome that policies are made for: net value where offers differ in it, else the conversion."""
        return NET_VALUE if NET_VALUE in self.logged.outcomes else self.logged.primary

    @cached_property
    def policies(self) -> dict[str, Seen]:
        """By name: the two that were trained, what ran, an even draw, and each arm alone where there are few."""
        logged = self.logged
        fold = self.fits.fold
        found = {name: _deterministic(logged, own, fold, self.others[name]) for name, own in self.choices.items()}
        found[LOGGING] = lambda reward, q: Rows(logged.user, reward, np.ones(logged.n), reward, reward)
        found[RANDOM] = _uniform(logged)
        if len(logged.arms) <= MOST_ARMS_SHOWN:
            for arm, name in enumerate(logged.arms):
                if not logged.retired[arm]:
                    could = logged.eligible[:, arm]
                    only = np.where(could, arm, self.choices[REFERENCE])
                    others = np.where(could[:, None], arm, self.others[REFERENCE])
                    found[f"only:{name}"] = _deterministic(logged, only, fold, others)
        return found

    def outcome(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the reward, and (n, A) q̂ of it."""
        reward = self.logged.outcomes[name]
        if name == NET_VALUE:
            return reward, self.q * self.logged.net
        return reward, self.q if name == self.logged.primary else self._arm_means(reward)

    def rows(self, policy: str, outcome: str) -> Rows:
        """The decisions as a policy sees them."""
        return self.policies[policy](*self.outcome(outcome))

    def _arm_means(self, reward: np.ndarray) -> np.ndarray:
        """(n, A) q̂ of another outcome: its cross-fitted mean per surface and arm."""
        logged, fits = self.logged, self.fits
        q = np.empty((logged.n, len(logged.arms)))
        for fold in range(fits.folds):
            mine = fits.fold == fold
            q[mine] = table(arm_means(logged, np.flatnonzero(~mine), reward), logged)[logged.surface[mine]]
        return q


def judge(fits: CrossFit) -> Judged:
    """Judge a procedure of training, which chooses λ in each fold anew."""
    logged = fits.logged
    choices = {name: np.empty((logged.n, fits.folds), np.int16) for name in (REFERENCE, TRAINED)}
    q, p = (np.empty((logged.n, len(logged.arms))) for _ in range(2))
    shrinkages = []
    for fold in range(fits.folds):
        others = frozenset({fold})
        found, raw, rows = fits.fitted(others), fits.raw(others, fold), np.flatnonzero(fits.fold == fold)
        means = table(found.means, logged)[logged.surface[rows]]
        q[rows] = expected(raw, means, found.calibration)
        p[rows] = shrunk(raw, means, found.calibration, found.shrinkage)
        choices[REFERENCE][rows, fold] = chosen(logged, rows, means)
        choices[TRAINED][rows, fold] = chosen(logged, rows, p[rows])
        for other in set(range(fits.folds)) - {fold}:
            best, ours = _without(fits, found, fold, other)
            choices[REFERENCE][rows, other], choices[TRAINED][rows, other] = best, ours
        shrinkages.append(found.shrinkage)
    own = {name: found[np.arange(logged.n), fits.fold].astype(np.intp) for name, found in choices.items()}
    return Judged(fits, own, q, p, tuple(shrinkages), choices)


def _without(fits: CrossFit, found: Fitted, fold: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the fold,) what both policies would choose there had they not learned from `other`.

    Calibration and λ stay as `found`: to choose them anew would take fits that leave out three folds.
    """
    logged, pair = fits.logged, frozenset({fold, other})
    rows = np.flatnonzero(fits.fold == fold)
    means = table(arm_means(logged, fits.rows(pair)), logged)[logged.surface[rows]]
    best = chosen(logged, rows, means)
    if not found.shrinkage:
        return best, best
    return best, chosen(logged, rows, shrunk(fits.raw(pair, fold), means, found.calibration, found.shrinkage))


def _deterministic(logged: Logged, choice: np.ndarray, fold: np.ndarray, others: np.ndarray) -> Seen:
    """`choice` is (n,); `others` (n, K) what would be chosen had the policy learned from one more fold less."""
    at, weight = np.arange(logged.n), (choice == logged.action) / logged.probability

    def seen(reward: np.ndarray, q: np.ndarray) -> Rows:
        weights = (others == logged.action[:, None]) / logged.probability[:, None].astype(np.float32)
        without = Without(fold, weights, q[at[:, None], others].astype(np.float32))
        return Rows(logged.user, reward, weight, q[at, logged.action], q[at, choice], without)

    return seen


def _uniform(logged: Logged) -> Seen:
    at, share = np.arange(logged.n), 1.0 / logged.eligible.sum(axis=1)
    weight = share * logged.eligible[at, logged.action] / logged.probability  # what has retired is drawn no more

    def seen(reward: np.ndarray, q: np.ndarray) -> Rows:
        dm = np.where(logged.eligible, q, 0.0).sum(axis=1) * share
        return Rows(logged.user, reward, weight, q[at, logged.action], dm)

    return seen
