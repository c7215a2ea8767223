"""Is harm hidden in a segment? The paired DR difference of two policies within each market, tier and the like.

    pairs = segment_differences(ours, reference, {"market": markets, "tier": tiers})   # Rows, Rows, (n,) labels each
    harmed = [one for one in pairs if one.status is Status.WORSE]

Whether a segment is worse than the margin allows is tested one-sided, and the p-values of all segments that are shown
are corrected together (Holm 1979): looking at thirty segments finds harm by luck in 5 % of the looks, not in 80 %.
Too little data is NOT_SHOWN, and what is neither ruled out nor shown is OPEN: neither is ever "safe".
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from evaluation.labels.labels import Logged
from evaluation.values.estimators import Difference, Estimate, Rows, difference, dr
from evaluation.values.shared_folds import added, between

MARGIN = 0.05
"""The loss that a segment may bear, as a share of what the reference is worth there."""
LEVEL = 0.95
MISSING = "(missing)"
ALWAYS = ("market", "tier")
MOST_VALUES, MOST_VALUES_ALWAYS = 12, 60
"""A feature with more values than this makes no segments; those of ALWAYS may have more."""


class Status(StrEnum):
    WORSE = "worse"
    """Significantly worse than the margin allows, after Holm's correction."""
    WITHIN = "within the margin"
    """The one-sided lower bound, at the level asked for, rules out a loss beyond the margin."""
    OPEN = "open"
    """Neither: the data leave room for a loss beyond the margin, and don't show one."""
    NOT_SHOWN = "not shown"
    """Too little data to say anything."""


@dataclass(frozen=True, slots=True)
class SegmentDifference:
    """A policy against a reference within one segment; figures are per decision there, None where not shown."""

    feature: str
    value: str
    decisions: int
    users: int
    ess: float
    """The smaller of both policies' effective sample sizes."""
    reference: float | None
    """The reference's DR value in the segment."""
    diff: float | None
    low: float | None
    """The 95 % interval of `diff`, of this segment alone."""
    high: float | None
    low_all: float | None
    """The interval that holds for all segments that are shown at once (Bonferroni), at the same level."""
    high_all: float | None
    p_worse: float | None
    """Holm-corrected p-value of "worse than the margin allows"."""
    status: Status
    note: str | None
    """Why it is not shown."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"status": str(self.status)}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> "SegmentDifference":
        return cls(**{**obj, "status": Status(obj["status"])})


@dataclass(frozen=True)
class Segments:
    """An accumulator, exact: both policies' estimates by (feature, value). Add those of disjoint decisions with `+`."""

    pairs: Mapping[tuple[str, str], tuple[Estimate, Estimate]]

    @classmethod
    def of(cls, ours: Rows, reference: Rows, segments: Mapping[str, Sequence[object] | np.ndarray]) -> "Segments":
        pairs = {}
        for feature, labels in segments.items():
            codes, names = pd.factorize(pd.Series(labels, dtype=object))  # what is missing has the code -1
            for code in np.unique(codes):
                mine = np.flatnonzero(codes == code)
                value = MISSING if code < 0 else str(names[code])
                pairs[feature, value] = (_estimate(ours, mine), _estimate(reference, mine))
        return cls(pairs)

    def __add__(self, other: "Segments") -> "Segments":
        merged = dict(self.pairs)
        for key, (ours, reference) in other.pairs.items():
            if key in merged:
                merged[key] = (merged[key][0] + ours, merged[key][1] + reference)
            else:
                merged[key] = (ours, reference)
        return Segments(merged)

    def differences(self, *, margin: float = MARGIN, level: float = LEVEL) -> tuple[SegmentDifference, ...]:
        """Each segment by feature and value; see `segment_differences`."""
        keys = sorted(self.pairs)
        notes = {key: self.pairs[key][0].lacking() or self.pairs[key][1].lacking() for key in keys}
        shown = [key for key in keys if notes[key] is None]
        corrected = dict(zip(shown, holm([_p_worse(*self.pairs[key], margin) for key in shown]), strict=True))
        return tuple(
            _difference(key, self.pairs[key], notes[key], corrected.get(key), len(shown), margin, level) for key in keys
        )


def segment_differences(
    ours: Rows,
    reference: Rows,
    segments: Mapping[str, Sequence[object] | np.ndarray],
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> tuple[SegmentDifference, ...]:
    """`ours` minus `reference` (the same n decisions) in each segment, sorted by feature and value.

    `segments`: by feature, (n,) labels; None and NaN make a segment of their own. A segment is shown where both
    policies have the support that any estimate needs (`Estimate.lacking`). Raises ValueError for two policies over
    different decisions.
    """
    return Segments.of(ours, reference, segments).differences(margin=margin, level=level)


def segment_labels(logged: Logged) -> dict[str, np.ndarray]:
    """What to look into, (n,) labels each: market and tier, every feature of few named values, and the surface."""
    found: dict[str, np.ndarray] = {}
    if len(logged.surfaces) > 1:
        found["surface"] = np.array(logged.surfaces, object)[logged.surface]
    for name in logged.facts.columns:
        column = logged.facts[name]
        if isinstance(column.dtype, pd.StringDtype | pd.CategoricalDtype):
            most = MOST_VALUES_ALWAYS if name in ALWAYS else MOST_VALUES
            if 1 < column.nunique(dropna=False) <= most:
                found[str(name)] = column.astype(object).to_numpy()
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 1979): compare each with α itself."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def _estimate(rows: Rows, mine: np.ndarray) -> Estimate:
    return Estimate.by(dr, rows.take(mine))


def _slack(ours: Estimate, reference: Estimate, margin: float) -> Difference:
    """How far the difference lies above what the margin allows, which is estimated too."""
    paired, share = difference(ours, reference), margin if reference.value >= 0 else -margin
    owed = between(added(ours.shift, reference.shift, share - 1.0))
    deviations = paired.deviations + share * reference.deviations
    return Difference(paired.value + share * reference.value, deviations, paired.scale, owed)


def _p_worse(ours: Estimate, reference: Estimate, margin: float) -> float:
    """One-sided p-value of "the difference lies below what the margin allows"."""
    slack = _slack(ours, reference, margin)
    freedom = len(slack.deviations) - 1
    error = (slack.value - slack.interval(LEVEL)[0]) / float(student.ppf(0.5 + LEVEL / 2, freedom))
    return float(student.cdf(slack.value / error, freedom))


def _difference(
    key: tuple[str, str],
    pair: tuple[Estimate, Estimate],
    note: str | None,
    p_worse: float | None,
    shown: int,
    margin: float,
    level: float,
) -> SegmentDifference:
    ours, reference = pair
    support = (ours.n, len(ours.users), min(ours.ess, reference.ess))
    if p_worse is None:
        return SegmentDifference(*key, *support, *[None] * 7, Status.NOT_SHOWN, note)
    paired = difference(ours, reference)
    low, high = paired.interval(level)
    low_all, high_all = paired.interval(1 - (1 - level) / shown)
    certain = _slack(ours, reference, margin).lower(level) >= 0
    status = Status.WORSE if p_worse < 1 - level else Status.WITHIN if certain else Status.OPEN
    figures = (reference.value, paired.value, low, high, low_all, high_all)
    if not all(map(isfinite, figures)):
        return SegmentDifference(*key, *support, *[None] * 7, Status.NOT_SHOWN, "its figures are not finite")
    return SegmentDifference(*key, *support, *figures, p_worse, status, None)
