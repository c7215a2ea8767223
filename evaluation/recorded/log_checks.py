"""Is the log what the policy says? Each arm as often as its probability, and weights that average to one.

A filter after the draw, a cache that answers for it, a client that hides an offer: each shows here, before anybody
believes an estimate. For arm k, z = Σ(1{a=k} − p_k) / √Σ p_k (1 − p_k) over the logged decisions; and for a policy e
that the log supports, E[w] = 1 with w = e(a) / p(a).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import erfc, exp, inf, sqrt

from decisioning.domain import MILLION, Decision, Policy
from evaluation.recorded.merging import merged

ALPHA = 0.001
"""The chance that a sound log fails, over all its tests: half for the few over all decisions, half for the arms."""
NORMAL_FROM = 100.0
"""From this variance on, in squares of the largest step, a sum is taken as normal."""

CHAMPION, CHALLENGER, WEIGHT = "the champion's choice", "the challenger's choice", "the weight of an even policy"


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum over decisions beside what was expected of it; add two of disjoint decisions with `+`."""

    observed: float = 0.0
    expected: float = 0.0
    variance: float = 0.0
    step: float = 1.0
    """The most that one decision may add beyond what is expected of it."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.observed + other.observed,
            self.expected + other.expected,
            self.variance + other.variance,
            max(self.step, other.step),
        )

    @property
    def z(self) -> float:
        """0 where nothing was left to chance and nothing is off."""
        off = self.observed - self.expected
        if self.variance < 1e-9:
            return 0.0 if abs(off) < 1e-6 else inf
        return off / sqrt(self.variance)

    @property
    def p_value(self) -> float:
        """The chance of being as far off, or more, in a sound log; for small variances a bound on it.

        Bernstein's inequality holds for sums of any size, and with Freedman's (1975) for decisions that hang on earlier
        ones; the normal tail is sharper where there are many.
        """
        if self.z == inf or self.variance >= NORMAL_FROM * self.step**2:
            return erfc(abs(self.z) / sqrt(2))
        off = abs(self.observed - self.expected)
        return min(1.0, 2 * exp(-(off**2) / (2 * (self.variance + self.step * off / 3)))) if off else 1.0


@dataclass(frozen=True, slots=True)
class LogCheck:
    """The tallies of some logged decisions; add those of disjoint decisions with `+`, in any order."""

    decisions: int = 0
    """Those that drew; a fallback draws nothing."""
    impossible: int = 0
    """What was shown had no chance at all."""
    whole: Mapping[str, Tally] = field(default_factory=dict)
    """Over all decisions: CHAMPION, CHALLENGER, WEIGHT."""
    arms: Mapping[str, Tally] = field(default_factory=dict)
    """By offer, NOTHING among them."""

    def __add__(self, other: "LogCheck") -> "LogCheck":
        return LogCheck(
            self.decisions + other.decisions,
            self.impossible + other.impossible,
            merged(self.whole, other.whole),
            merged(self.arms, other.arms),
        )

    @property
    def mean_weight(self) -> float:
        """Of an even policy over what was left, over the decisions where each of it had a chance; 1 in a sound log."""
        weight = self.whole.get(WEIGHT, Tally())
        return weight.observed / weight.expected if weight.expected else 1.0

    def problems(self, alpha: float = ALPHA) -> tuple[str, ...]:
        """What is off, a sentence each; none in a sound log, but with a chance of `alpha`."""
        found = []
        if self.impossible:
            found.append(f"{self.impossible} of {self.decisions} decisions show what had no chance of being shown.")
        for tallies in (self.whole, self.arms):
            for name, tally in sorted(tallies.items()):
                if tally.p_value < alpha / 2 / len(tallies):
                    seen = f"{tally.observed:,.0f}, where {tally.expected:,.0f} were to be expected"
                    found.append(f"{name} adds up to {seen} (z = {tally.z:+.1f}).")
        return tuple(found)

    @property
    def ok(self) -> bool:
        return not self.problems()


def check_log(decisions: Iterable[Decision]) -> LogCheck:
    """The tallies of decisions as they were logged: their policies, and what each showed first."""
    whole, arms = _Sums(), _Sums()
    drawn = impossible = 0
    for decision in decisions:
        policy = decision.policy
        if policy is None:
            continue
        drawn += 1
        shown = decision.first
        if not policy.weight(shown):
            impossible += 1
        _tally(policy, shown, whole, arms)
    return LogCheck(drawn, impossible, whole.tallies(), arms.tallies())


def _tally(policy: Policy, shown: str, whole: "_Sums", arms: "_Sums") -> None:
    share = policy.share / MILLION
    special = {name: policy.weight(name) / MILLION for name in (policy.champion, policy.challenger) if name is not None}
    for arm in policy.offers:
        arms.add(arm, arm == shown, special.get(arm, share))
    whole.add(CHAMPION, shown == policy.champion, special[policy.champion])
    if policy.challenger is not None and policy.challenger != policy.champion:
        whole.add(CHALLENGER, shown == policy.challenger, special[policy.challenger])
    if policy.share and len(policy.offers) > 1 and min(special.values()) > 0:
        _weigh(policy, shown, share, special, whole)


def _weigh(policy: Policy, shown: str, share: float, special: Mapping[str, float], whole: "_Sums") -> None:
    """w = e(a) / p(a) with e even over what was left: E[w] = 1 and Var[w] = Σ e² / p − 1."""
    even = 1 / len(policy.offers)
    chance = special.get(shown, share if shown in policy.offers else inf)
    square = sum(even**2 / p for p in special.values()) + (len(policy.offers) - len(special)) * even**2 / share
    whole.put(WEIGHT, even / chance, 1.0, square - 1.0, even / share)


class _Sums:
    """Tallies as they grow."""

    def __init__(self) -> None:
        self._rows: dict[str, list[float]] = {}

    def add(self, name: str, hit: bool, p: float) -> None:
        """One chance of p, taken or not."""
        self.put(name, float(hit), p, p * (1 - p), 1.0)

    def put(self, name: str, observed: float, expected: float, variance: float, step: float) -> None:
        row = self._rows.get(name)
        if row is None:
            self._rows[name] = [observed, expected, variance, step]
            return
        row[0] += observed
        row[1] += expected
        row[2] += variance
        if step > row[3]:
            row[3] = step

    def tallies(self) -> dict[str, Tally]:
        return {name: Tally(*row) for name, row in self._rows.items()}
