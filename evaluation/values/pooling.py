"""One figure from several seeds: the folds are drawn anew each time, and what each draw says of a user is averaged.

The users stay the same ones, so seeds take away the luck of the folds and none of the luck of the data: the interval is
that of the averages, clustered by user as for one seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.values.crossfit import CrossFit
from evaluation.values.estimators import Difference, Estimate, difference, dr
from evaluation.values.judged import REFERENCE, TRAINED, judge


@dataclass(frozen=True)
class Pooled:
    """The trained policy less the best single offer: doubly robust, paired, cross-fitted under several seeds."""

    difference: Difference
    seeds: tuple[float, ...]
    """The difference under each seed."""
    best: float
    """The value of the best single offer, averaged too."""
    shrinkages: tuple[tuple[float, ...], ...]
    """λ of each fold, under each seed."""

    def to_json(self) -> dict[str, Any]:
        low, high = self.difference.interval()
        return {
            "diff": self.difference.value,
            "diff_low": float(low),
            "diff_high": float(high),
            "diff_lower": float(self.difference.lower()),
            "by_seed": list(self.seeds),
            "best_single_offer": self.best,
            "shrinkages": [list(folds) for folds in self.shrinkages],
        }


def pooled_differences(fits: Iterable[CrossFit]) -> dict[str, Pooled]:
    """By outcome. All `fits` are over the same decisions, each under a seed of its own; only one is kept at a time."""
    found: dict[str, list[tuple[Difference, float]]] = {}
    shrinkages = []
    for one in fits:
        judged = judge(one)
        shrinkages.append(judged.shrinkages)
        for outcome in one.logged.outcomes:
            rows = (judged.rows(policy, outcome) for policy in (TRAINED, REFERENCE))
            ours, best = (Estimate.by(dr, seen) for seen in rows)
            found.setdefault(outcome, []).append((difference(ours, best), best.value))
    return {outcome: _pooled(parts, tuple(shrinkages)) for outcome, parts in found.items()}


def _pooled(parts: list[tuple[Difference, float]], shrinkages: tuple[tuple[float, ...], ...]) -> Pooled:
    values = tuple(part.value for part, _ in parts)
    deviations = np.mean([part.deviations for part, _ in parts], axis=0)
    between = float(np.mean([part.between for part, _ in parts]))  # seeds don't lessen what folds owe one another
    together = Difference(float(np.mean(values)), deviations, max(part.scale for part, _ in parts), between)
    return Pooled(together, values, float(np.mean([best for _, best in parts])), shrinkages)
