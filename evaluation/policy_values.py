"""The table of policy values: what each policy would have earned on the logged decisions, and by how much it beats the
best single offer. Cross-fitted: the part of the data that a policy is judged on had no say in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from evaluation.arm_means import arm_means, table
from evaluation.crossfit import CrossFit, Fitted, expected, shrunk
from evaluation.estimators import ESTIMATORS, Estimate, Rows, difference
from evaluation.labels import NET_VALUE, Logged
from evaluation.policy_choice import chosen

REFERENCE, TRAINED, LOGGING, RANDOM = "best_single_offer", "trained", "logging", "random"
MOST_ARMS_SHOWN = 6
Record = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The records, and what the folds decided on the way."""

    records: list[Record]
    shrinkages: tuple[float, ...]
    """λ of each fold."""
    p_shown: np.ndarray
    """(n,) the cross-fitted p_convert, as served, of the arm that was shown."""
    q_shown: np.ndarray
    """(n,) the same without shrinkage: the learner's calibrated probability, or the mean where it has none."""


def policy_values(fits: CrossFit) -> Table:
    """The table for a procedure of training, which chooses λ in each fold anew."""
    logged = fits.logged
    choices = {REFERENCE: np.empty(logged.n, np.intp), TRAINED: np.empty(logged.n, np.intp)}
    q = np.empty((logged.n, len(logged.arms)))
    p_shown = np.empty(logged.n)
    shrinkages = []
    for fold in range(fits.folds):
        found = fits.fitted(frozenset({fold}))
        rows = np.flatnonzero(fits.fold == fold)
        raw = fits.raw(frozenset({fold}), fold)
        p = _judge(fits, found, rows, raw, choices, q)
        p_shown[rows] = p[np.arange(len(rows)), logged.action[rows]]
        shrinkages.append(found.shrinkage)
    policies = _policies(logged, choices)
    records = [record for name in logged.outcomes for record in _records(fits, policies, name, q)]
    return Table(records, tuple(shrinkages), p_shown, q[np.arange(logged.n), logged.action])


def _judge(
    fits: CrossFit, found: Fitted, rows: np.ndarray, raw: np.ndarray, choices: Mapping[str, np.ndarray], q: np.ndarray
) -> np.ndarray:
    """Fill in what the policies of one fold choose on its own rows, and q̂ there. Returns p_convert of all arms."""
    logged = fits.logged
    means = table(found.means, logged)[logged.surface[rows]]
    q[rows] = expected(raw, means, found.calibration)
    choices[REFERENCE][rows] = chosen(logged, rows, means)
    p = shrunk(raw, means, found.calibration, found.shrinkage)
    choices[TRAINED][rows] = chosen(logged, rows, p)
    return p


Seen = Callable[[np.ndarray, np.ndarray], Rows]


def _policies(logged: Logged, choices: Mapping[str, np.ndarray]) -> dict[str, Seen]:
    """By name, the function from a reward and q̂ (n, A) to the rows as the policy sees them."""
    found = {name: _deterministic(logged, choice) for name, choice in choices.items()}
    found[LOGGING] = lambda reward, q: Rows(logged.user, reward, np.ones(logged.n), reward, reward)
    found[RANDOM] = _uniform(logged)
    if len(logged.arms) <= MOST_ARMS_SHOWN:
        for arm, name in enumerate(logged.arms):
            only = np.where(logged.eligible[:, arm], arm, choices[REFERENCE])
            found[f"only:{name}"] = _deterministic(logged, only)
    return found


def _deterministic(logged: Logged, choice: np.ndarray) -> Seen:
    at, weight = np.arange(logged.n), (choice == logged.action) / logged.probability

    def seen(reward: np.ndarray, q: np.ndarray) -> Rows:
        return Rows(logged.user, reward, weight, q[at, logged.action], q[at, choice])

    return seen


def _uniform(logged: Logged) -> Seen:
    share = 1.0 / logged.eligible.sum(axis=1)
    weight = share / logged.probability

    def seen(reward: np.ndarray, q: np.ndarray) -> Rows:
        dm = np.where(logged.eligible, q, 0.0).sum(axis=1) * share
        return Rows(logged.user, reward, weight, q[np.arange(logged.n), logged.action], dm)

    return seen


def _records(fits: CrossFit, policies: Mapping[str, Seen], outcome: str, q: np.ndarray) -> Iterator[Record]:
    logged = fits.logged
    reward = logged.outcomes[outcome]
    if outcome == NET_VALUE:
        q = q * logged.net
    elif outcome != logged.primary:
        q = _arm_means_q(fits, reward)
    seen = {name: policy(reward, q) for name, policy in policies.items()}
    for estimator, terms in ESTIMATORS.items():
        estimates = {name: Estimate.of(rows, *terms(rows)) for name, rows in seen.items()}
        for name, estimate in estimates.items():
            yield _record(name, outcome, estimator, estimate, estimates[REFERENCE])


def _arm_means_q(fits: CrossFit, reward: np.ndarray) -> np.ndarray:
    """q̂ (n, A) of another outcome: its cross-fitted mean per surface and arm."""
    logged = fits.logged
    q = np.empty((logged.n, len(logged.arms)))
    for fold in range(fits.folds):
        mine = fits.fold == fold
        q[mine] = table(arm_means(logged, np.flatnonzero(~mine), reward), logged)[logged.surface[mine]]
    return q


def _record(policy: str, outcome: str, estimator: str, estimate: Estimate, reference: Estimate) -> Record:
    low, high = estimate.interval()
    record: Record = {
        "policy": policy,
        "outcome": outcome,
        "estimator": estimator,
        "value": estimate.value,
        "low": low,
        "high": high,
        "diff": 0.0,
        "diff_low": None,
        "diff_high": None,
        "n": estimate.n,
        "ess": estimate.ess,
        "diff_lower": None,
        "note": estimate.lacking(),
    }
    if policy != REFERENCE:
        paired = difference(estimate, reference)
        record["diff"] = paired.value
        record["diff_low"], record["diff_high"] = paired.interval()
        record["diff_lower"] = paired.lower()  # one-sided, 95 %: what the gate reads
        record["note"] = record["note"] or reference.lacking()
    # JSON has no infinity: what can't be bounded is null.
    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in record.items()}
