"""From a learner's raw log-odds to a probability that means what it says. Plain numbers, so that it is JSON."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Calibration(Protocol):
    """A non-decreasing map from log-odds to a probability."""

    def each(self, raw: Sequence[float]) -> list[float]:
        """One by one, so that an offer's last bit can't depend on how many stand beside it. NaN stays NaN."""
        ...

    def probabilities(self, raw: np.ndarray) -> np.ndarray: ...

    def to_json(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Platt:
    """p = 1 / (1 + exp(-(slope × raw + intercept))) (Platt 1999). The default changes nothing but the scale."""

    slope: float = 1.0
    intercept: float = 0.0

    def each(self, raw: Sequence[float]) -> list[float]:
        slope, intercept, exp = self.slope, self.intercept, math.exp
        odds = [slope * value + intercept for value in raw]
        return [0.0 if value < -700.0 else 1.0 / (1.0 + exp(-value)) for value in odds]

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        odds = np.clip(self.slope * raw + self.intercept, -700.0, 700.0)
        return 1.0 / (1.0 + np.exp(-odds))

    def to_json(self) -> dict[str, object]:
        return {"kind": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Linear between knots (raw, probability), flat outside. Both sequences ascend."""

    raw: tuple[float, ...]
    p: tuple[float, ...]

    def each(self, raw: Sequence[float]) -> list[float]:
        return [self._one(value) for value in raw]

    def _one(self, raw: float) -> float:
        if raw != raw:
            return raw
        if raw <= self.raw[0]:
            return self.p[0]
        if raw >= self.raw[-1]:
            return self.p[-1]
        right = bisect_right(self.raw, raw)
        left = right - 1
        share = (raw - self.raw[left]) / (self.raw[right] - self.raw[left])
        return self.p[left] + share * (self.p[right] - self.p[left])

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        return np.interp(raw, self.raw, self.p)

    def to_json(self) -> dict[str, object]:
        return {"kind": "isotonic", "raw": list(self.raw), "p": list(self.p)}


def calibration_from_json(obj: Mapping[str, object]) -> Calibration:
    """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
    if obj["kind"] == "platt":
        return Platt(float(obj["slope"]), float(obj["intercept"]))
    if obj["kind"] == "isotonic":
        raw, p = tuple(map(float, obj["raw"])), tuple(map(float, obj["p"]))
        if not raw or len(raw) != len(p) or list(raw) != sorted(set(raw)) or list(p) != sorted(p):
            raise ValueError("an isotonic calibration needs ascending knots")
        return Isotonic(raw, p)
    raise ValueError(f"no calibration is called {obj['kind']!r}")
