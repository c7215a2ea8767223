"""Is the log what it says it is? Checks to make before believing an estimate that divides by logged probabilities.

If every decision was drawn as logged, each arm is shown as often as its probabilities add up to, and importance weights
average to one. A filter that acts after the draw breaks both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist

from decisioning.domain import MILLION, Decision

SURE = 0.001
"""How rarely, over all arms together, an honest log may be called dishonest."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One action's sums over the decisions that it could have been drawn in."""

    shown: int = 0
    expected: float = 0.0
    """Σ p."""
    variance: float = 0.0
    """Σ p (1 − p)."""

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(self.shown + other.shown, self.expected + other.expected, self.variance + other.variance)

    @property
    def z(self) -> float:
        """Σ (1{a = k} − p) / √Σ p (1 − p): about standard normal in an honest log."""
        return (self.shown - self.expected) / sqrt(self.variance) if self.variance > 0 else 0.0


@dataclass(frozen=True, slots=True)
class LogCheck:
    """Sums that merge with `+`: over batches, streams and machines alike."""

    decisions: int = 0
    arms: Mapping[str, Arm] = field(default_factory=dict)
    weights: float = 0.0
    """Σ w of the policy that is uniform over what was eligible."""
    weights_squared: float = 0.0
    impossible: int = 0
    """Decisions that showed what their policy gave no chance."""

    @classmethod
    def of(cls, decisions: Iterable[Decision]) -> "LogCheck":
        """The sums over the decisions that were drawn; fallbacks and empty answers were not."""
        count = impossible = 0
        weights = squared = 0.0
        sums: dict[str, list[float]] = {}
        for decision in decisions:
            policy = decision.policy
            if policy is None:
                continue
            count += 1
            for name, weight in zip(policy.offers, policy.weights, strict=True):
                p = weight / MILLION
                arm = sums.setdefault(name, [0.0, 0.0, 0.0])
                arm[0] += name == decision.first
                arm[1] += p
                arm[2] += p * (1 - p)
            chance = policy.weight(decision.first) / MILLION
            if chance == 0:
                impossible += 1
            else:
                w = 1 / (len(policy.offers) * chance)
                weights, squared = weights + w, squared + w * w
        arms = {name: Arm(int(shown), expected, variance) for name, (shown, expected, variance) in sums.items()}
        return cls(count, arms, weights, squared, impossible)

    def __add__(self, other: "LogCheck") -> "LogCheck":
        names = self.arms.keys() | other.arms.keys()
        return LogCheck(
            self.decisions + other.decisions,
            {name: self.arms.get(name, Arm()) + other.arms.get(name, Arm()) for name in sorted(names)},
            self.weights + other.weights,
            self.weights_squared + other.weights_squared,
            self.impossible + other.impossible,
        )

    @property
    def weight_z(self) -> float:
        """How far the mean weight lies from one, in standard errors."""
        if self.decisions < 2:
            return 0.0
        mean = self.weights / self.decisions
        variance = self.weights_squared / self.decisions - mean * mean
        return (mean - 1) / sqrt(variance / self.decisions) if variance > 0 else 0.0

    def problems(self) -> tuple[str, ...]:
        """What speaks against the log, in words; empty where nothing does. Thresholds are Bonferroni-corrected."""
        limit = NormalDist().inv_cdf(1 - SURE / 2 / (len(self.arms) + 1))
        found = [
            f"{name} was shown {arm.shown:,} times where its probabilities say {arm.expected:,.1f} (z = {arm.z:+.1f})"
            for name, arm in sorted(self.arms.items())
            if abs(arm.z) > limit
        ]
        if abs(self.weight_z) > limit:
            mean = self.weights / self.decisions
            found.append(f"the weights average {mean:.4f} and not 1 (z = {self.weight_z:+.1f})")
        if self.impossible:
            found.append(f"{self.impossible:,} decisions show what their policy gave no chance")
        return tuple(found)
