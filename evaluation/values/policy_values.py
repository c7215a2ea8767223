"""The table of policy values: what each policy would have earned on the logged decisions, and by how much it beats the
best single offer. Cross-fitted: the part of the data that a policy is judged on had no say in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from evaluation.values.crossfit import CrossFit
from evaluation.values.estimators import ESTIMATORS, RANKING_ONLY, Estimate, difference
from evaluation.values.judged import LOGGING, RANDOM, REFERENCE, TRAINED, Judged, judge

__all__ = ["LOGGING", "RANDOM", "REFERENCE", "TRAINED", "Record", "Table", "policy_values"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The records, and what they come from."""

    records: list[Record]
    judged: Judged

    @property
    def shrinkages(self) -> tuple[float, ...]:
        """λ of each fold."""
        return self.judged.shrinkages

    @property
    def p_shown(self) -> np.ndarray:
        """(n,) the cross-fitted p_convert, as served, of the arm that was shown."""
        return self.judged.p_shown

    @property
    def q_shown(self) -> np.ndarray:
        """(n,) the same without shrinkage: the learner's calibrated probability, or the mean where it has none."""
        return self.judged.q_shown


def policy_values(fits: CrossFit) -> Table:
    """The table for a procedure of training, which chooses λ in each fold anew."""
    judged = judge(fits)
    return Table([record for name in fits.logged.outcomes for record in _records(judged, name)], judged)


def _records(judged: Judged, outcome: str) -> Iterator[Record]:
    reward, q = judged.outcome(outcome)
    seen = {name: policy(reward, q) for name, policy in judged.policies.items()}
    for estimator, terms in ESTIMATORS.items():
        estimates = {name: Estimate.by(terms, rows) for name, rows in seen.items()}
        for name, estimate in estimates.items():
            yield _record(name, outcome, estimator, estimate, estimates[REFERENCE])


def _record(policy: str, outcome: str, estimator: str, estimate: Estimate, reference: Estimate) -> Record:
    """Where there is not enough support a note says why, and there is no interval: it would be too narrow."""
    note = estimate.lacking()
    low, high = (None, None) if note else estimate.interval()
    record: Record = {
        "policy": policy,
        "outcome": outcome,
        "estimator": estimator,
        "ranking_only": estimator in RANKING_ONLY,
        "value": estimate.value,
        "low": low,
        "high": high,
        "diff": 0.0,
        "diff_low": None,
        "diff_high": None,
        "n": estimate.n,
        "ess": estimate.ess,
        "diff_lower": None,
        "note": note,
        "diff_note": None,
    }
    if policy != REFERENCE:
        paired = difference(estimate, reference)
        record["diff"] = paired.value
        record["diff_note"] = note or _lacking(reference)
        if record["diff_note"] is None:
            record["diff_low"], record["diff_high"] = paired.interval()
            record["diff_lower"] = paired.lower()  # one-sided, 95 %: what the gate reads
    # JSON has no infinity: what can't be bounded is null.
    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in record.items()}


def _lacking(reference: Estimate) -> str | None:
    note = reference.lacking()
    return None if note is None else f"{note} (of the best single offer)"
