"""Conversion rates per surface and offer without personalisation, from explored logs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.labels.logged import Logged
from models.artifact import Means

SMOOTHING = 100.0
"""Decisions' worth of belief in the level above: an offer's rate on a surface starts at its rate anywhere, that at its
group's, and that at the overall one."""


def arm_means(logged: Logged, rows: np.ndarray, values: np.ndarray | None = None) -> Means:
    """Means of `values` (n,), the conversions unless given, over some rows (indices), weighted by 1/probability.

    Σ r/p ÷ Σ 1/p (Hájek 1971) undoes the logging policy's preference for some users. What has retired has no mean.
    """
    values = logged.conversion if values is None else values
    if logged.retired.any():
        rows = rows[~logged.retired[logged.action[rows]]]
    seen = _Sums.of(logged, rows, values)
    overall = seen.over().mean(0.0, smoothing=0.0)
    groups: dict[str, float] = {}
    offers: dict[str, float] = {}
    surfaces: dict[str, dict[str, float]] = {name: {} for name in logged.surfaces}
    for group in sorted({group for group, gone in zip(logged.groups, logged.retired, strict=True) if not gone}):
        mine = [arm for arm, other in enumerate(logged.groups) if other == group]
        groups[group] = seen.over(arms=mine).mean(overall)
        for arm in mine:
            name = logged.arms[arm]
            offers[name] = seen.over(arms=[arm]).mean(groups[group])
            for place, where in enumerate(logged.surfaces):
                here = seen.over(arms=[arm], surfaces=[place])
                if here.count:
                    surfaces[where][name] = here.mean(offers[name])
    return Means(surfaces, offers, groups, overall)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of some decisions: how many, Σ 1/p and Σ r/p."""

    count: float
    weight: float
    value: float

    def mean(self, above: float, smoothing: float = SMOOTHING) -> float:
        if not self.count:
            return float(above)
        return (self.count * (self.value / self.weight) + smoothing * above) / (self.count + smoothing)


@dataclass(frozen=True, slots=True)
class _Sums:
    """The same for every surface and arm: (3, surfaces, arms)."""

    cells: np.ndarray

    @classmethod
    def of(cls, logged: Logged, rows: np.ndarray, values: np.ndarray) -> "_Sums":
        shape = len(logged.surfaces), len(logged.arms)
        cell = logged.surface[rows] * shape[1] + logged.action[rows]
        weight = 1.0 / logged.probability[rows]
        sums = [
            np.bincount(cell, weights=w, minlength=shape[0] * shape[1]) for w in (None, weight, weight * values[rows])
        ]
        return cls(np.array(sums, float).reshape(3, *shape))

    def over(self, arms: list[int] | None = None, surfaces: list[int] | None = None) -> _Seen:
        cells = self.cells if arms is None else self.cells[:, :, arms]
        cells = cells if surfaces is None else cells[:, surfaces]
        return _Seen(*cells.sum(axis=(1, 2)).tolist())


def table(means: Means, logged: Logged) -> np.ndarray:
    """(surfaces, arms) the means as an array, for `table[logged.surface]`."""
    named: Mapping[str, str] = dict(zip(logged.arms, logged.groups, strict=True))
    return np.array([[means.of(where, arm, named[arm]) for arm in logged.arms] for where in logged.surfaces])
