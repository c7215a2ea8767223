"""Conversion rates per surface and offer without personalisation, from explored logs."""

from collections.abc import Mapping

import numpy as np

from evaluation.labels import Logged
from models.artifact import Means

SMOOTHING = 100.0
"""Decisions' worth of belief in the level above: an offer's rate on a surface starts at its rate anywhere, that at its
group's, and that at the overall one."""


def arm_means(logged: Logged, rows: np.ndarray, values: np.ndarray | None = None) -> Means:
    """Means of `values` (n,), the conversions unless given, over some rows (indices), weighted by 1/probability.

    Σ r/p ÷ Σ 1/p (Hájek 1971) undoes the logging policy's preference for some users.
    """
    values = logged.conversion if values is None else values
    seen = _Seen(values[rows], 1.0 / logged.probability[rows])
    action, surface = logged.action[rows], logged.surface[rows]
    overall = seen.mean(np.ones(len(rows), bool), 0.0, smoothing=0.0)
    group_of = np.array(logged.groups)
    groups = {group: seen.mean(group_of[action] == group, overall) for group in sorted(set(logged.groups))}
    offers: dict[str, float] = {}
    surfaces: dict[str, dict[str, float]] = {name: {} for name in logged.surfaces}
    for arm, (name, group) in enumerate(zip(logged.arms, logged.groups, strict=True)):
        mine = action == arm
        offers[name] = seen.mean(mine, groups[group])
        for place, where in enumerate(logged.surfaces):
            here = mine & (surface == place)
            if here.any():
                surfaces[where][name] = seen.mean(here, offers[name])
    return Means(surfaces, offers, groups, overall)


class _Seen:
    def __init__(self, values: np.ndarray, weights: np.ndarray) -> None:
        self._values, self._weights = values, weights

    def mean(self, rows: np.ndarray, above: float, smoothing: float = SMOOTHING) -> float:
        count = int(rows.sum())
        if not count:
            return float(above)
        weights = self._weights[rows]
        mean = float((weights * self._values[rows]).sum() / weights.sum())
        return (count * mean + smoothing * above) / (count + smoothing)


def table(means: Means, logged: Logged) -> np.ndarray:
    """(surfaces, arms) the means as an array, for `table[logged.surface]`."""
    named: Mapping[str, str] = dict(zip(logged.arms, logged.groups, strict=True))
    return np.array([[means.of(where, arm, named[arm]) for arm in logged.arms] for where in logged.surfaces])
