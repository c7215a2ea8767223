"""Does the promotion gate let the right ones through? `.venv/bin/python -m benchmarks.learning_gate`

Logs of worlds whose truth is known, as a canary makes them (100,000 decisions; ε = 0.05 even, κ = 0.05 for the
challenger's choice), through the gate's own code: cross-fitted doubly robust differences, calibration, segments.
Half of the challengers are worth exactly what the champion is, half exactly 15 % more. Writes nothing; `benchmarks/
learning.py` collects what `measure` returns.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from evaluation.gate.duel import compared, deterministic
from evaluation.gate.lines import (
    Calibration,
    Comparison,
    Line,
    calibration_lines,
    evidence_lines,
    refused,
    segment_lines,
)
from evaluation.values.estimators import Rows
from evaluation.values.reliability import Reliability, calibration_cells
from evaluation.values.segments import segment_differences

MARKETS, TIERS, TASTES, OFFERS, FOLDS = 4, 3, 8, 5, 5
CELLS = MARKETS * TIERS * TASTES
EVEN, CANARY = 0.05, 0.05
DECISIONS, USERS = 100_000, 30_000
BASE_RATE = 0.05
"""Conversions per decision under the champion, about: how much there is to see in a log hangs on it above all."""
LIFT = 0.15
LIFTS = {"null": 0.0, "lift15": LIFT}
TASTE, MISJUDGED = 0.5, 0.3
"""How far users part in what they want (log-normal), and how far both models misjudge it: together they make a champion
that is worth about 30 % more than the best single offer, and a challenger that differs on two decisions in five."""
RUNS, QUICK_RUNS = 400, 20
RATES = (0.03, 0.015)
SMOOTHING = 50.0


@dataclass(frozen=True)
class World:
    """Users in cells of a market, a tier and a taste; what each offer's conversion rate is there; three policies."""

    share: np.ndarray
    """(CELLS,) of all users."""
    rate: np.ndarray
    """(CELLS, OFFERS)"""
    net: np.ndarray
    """(OFFERS,) value of a conversion."""
    champion: np.ndarray
    """(CELLS,) its choice."""
    challenger: np.ndarray
    best: np.ndarray
    """The best single offer, the same in all cells."""

    def worth(self, choice: np.ndarray) -> float:
        """Value per decision of a policy."""
        at = np.arange(CELLS)
        return float((self.share * self.rate[at, choice] * self.net[choice]).sum())


def world(rng: np.random.Generator, lift: float, base_rate: float = BASE_RATE) -> World:
    """A challenger that differs on about half of the decisions, worth exactly 1 + `lift` times the champion."""
    share = rng.dirichlet(np.full(CELLS, 5.0))
    net = rng.uniform(1.0, 2.0, OFFERS)
    appeal = rng.normal(0, 0.2, OFFERS) + rng.normal(0, TASTE, (CELLS, OFFERS)) - np.log(net)
    rate = np.exp(appeal)
    best = np.full(CELLS, int((share @ (rate * net)).argmax()))
    champion, challenger = ((appeal + np.log(net) + rng.normal(0, MISJUDGED, appeal.shape)).argmax(1) for _ in range(2))
    made = World(share, rate, net, champion, challenger, best)
    at, differ = np.arange(CELLS), champion != challenger
    common = share * rate[at, challenger] * net[challenger]
    # What the challenger alone shows is made as good as it takes; the champion's worth stays.
    factor = ((1 + lift) * made.worth(champion) - common[~differ].sum()) / common[differ].sum()
    rate[at[differ], challenger[differ]] *= factor
    rate *= base_rate / (share * rate[at, champion]).sum()
    return World(share, rate, net, champion, challenger, best)


@dataclass(frozen=True)
class Log:
    """n decisions; arrays of shape (n,)."""

    user: np.ndarray
    cell: np.ndarray
    action: np.ndarray
    probability: np.ndarray
    conversion: np.ndarray


def draw(rng: np.random.Generator, made: World, decisions: int, canary: float = CANARY) -> Log:
    """What a server would have logged. A user converts more readily or less, all the same for every offer."""
    homes = rng.choice(CELLS, USERS, p=made.share)
    eagerness = rng.uniform(0.5, 1.5, USERS)
    user = rng.integers(0, USERS, decisions)
    cell = homes[user]
    first, second = made.champion[cell], made.challenger[cell]
    fate = rng.random(decisions)
    even = rng.integers(0, OFFERS, decisions)
    action = np.where(fate < EVEN, even, np.where(fate < EVEN + canary, second, first))
    probability = EVEN / OFFERS + canary * (action == second) + (1 - EVEN - canary) * (action == first)
    conversion = (rng.random(decisions) < made.rate[cell, action] * eagerness[user]).astype(float)
    return Log(user, cell, action, probability, conversion)


def crossfitted(log: Log) -> np.ndarray:
    """(FOLDS, CELLS, OFFERS) conversion rates from the other folds' users, smoothed to the offer's own."""
    fold = log.user % FOLDS
    place = (fold * CELLS + log.cell) * OFFERS + log.action
    size, shape = FOLDS * CELLS * OFFERS, (FOLDS, CELLS, OFFERS)
    shown = np.bincount(place, minlength=size).reshape(shape)
    hits = np.bincount(place, weights=log.conversion, minlength=size).reshape(shape)
    shown, hits = shown.sum(0) - shown, hits.sum(0) - hits
    overall = hits.sum((1, 2)) / shown.sum((1, 2))
    offer = (hits.sum(1) + SMOOTHING * overall[:, None]) / (shown.sum(1) + SMOOTHING)
    return (hits + SMOOTHING * offer[:, None, :]) / (shown + SMOOTHING)


@dataclass(frozen=True)
class Verdicts:
    """What one log came to."""

    champion: Comparison
    best: Comparison
    refused: tuple[str, ...]
    """The checks of steps 2 to 4 that failed; of step 3 alone where those settled it."""
    truth: float
    """The challenger's true value less the champion's."""

    @property
    def covered(self) -> bool:
        return self.champion.lower is not None and self.champion.lower <= self.truth

    def passes(self, *, proof: bool) -> bool:
        """Step 3 against the champion alone."""
        return not refused(evidence_lines(self.champion, proof=proof))


def judge(made: World, log: Log) -> Verdicts:
    """Steps 2 to 4 of the gate. The challenger's own probabilities are the true ones: it is calibrated."""
    fold, reward = log.user % FOLDS, log.conversion * made.net[log.action]
    q = crossfitted(log)[fold, log.cell] * made.net
    mine, theirs, simple = (
        deterministic(log.user, reward, log.action, log.probability, choice[log.cell], q)
        for choice in (made.challenger, made.champion, made.best)
    )
    champion = compared("the champion", "net_value", mine, theirs)
    best = compared("the best single offer", "net_value", mine, simple)
    lines = [*evidence_lines(champion, proof=True), *evidence_lines(best, proof=False)]
    if not refused(lines):  # what the other steps say matters only then
        lines += other_steps(made, log, mine, theirs)
    truth = made.worth(made.challenger) - made.worth(made.champion)
    return Verdicts(champion, best, tuple(line.check for line in refused(lines)), truth)


def other_steps(made: World, log: Log, mine: Rows, theirs: Rows) -> list[Line]:
    market, tier = log.cell % MARKETS, log.cell // MARKETS % TIERS
    p = made.rate[log.cell, log.action]
    curve = Reliability.of(p, log.conversion, log.user)
    names = np.array([*map(str, range(max(OFFERS, MARKETS)))])
    cells = calibration_cells(p, log.conversion, log.user, names[log.action], names[market])
    segments = segment_differences(mine, theirs, {"market": market, "tier": tier})
    return [
        *calibration_lines(Calibration(curve.ece, curve.ece_by_chance, cells)),
        *segment_lines(segments, "the champion"),
    ]


def runs(
    lift: float, count: int, *, seed: int = 0, decisions: int = DECISIONS, base_rate: float = BASE_RATE
) -> list[Verdicts]:
    """`count` worlds, each with a log of its own."""
    found = []
    for run in range(count):
        rng = np.random.default_rng([seed, run, round(1000 * lift)])
        made = world(rng, lift, base_rate)
        found.append(judge(made, draw(rng, made, decisions)))
        if (run + 1) % 100 == 0:
            print(f"  {run + 1} of {count} logs with a lift of {lift:+.0%} at {base_rate:.1%}", file=sys.stderr)
    return found


def rate(hits: Sequence[bool]) -> dict[str, float]:
    """A share and its Monte-Carlo standard error (of the rule of succession, so that it is never zero)."""
    smooth = (sum(hits) + 1) / (len(hits) + 2)
    return {"rate": sum(hits) / len(hits), "error": sqrt(smooth * (1 - smooth) / len(hits)), "runs": len(hits)}


def measure(quick: bool = False, seed: int = 0) -> dict[str, float | dict]:
    """The shares of null and +15 % challengers that pass, and how often the lower bound lies below the truth.

    Beside them, under `gate_details`: Monte-Carlo errors, step 3 against the champion alone as it is read and as the
    policy page words it, and the same at lower conversion rates, where a log of this size holds less.
    """
    count = QUICK_RUNS if quick else RUNS
    null, lifted = runs(0.0, 2 * count, seed=seed), runs(LIFT, count, seed=seed)
    passes = {"null": [not one.refused for one in null], "lift15": [not one.refused for one in lifted]}
    covered = [one.covered for one in [*null[:count], *lifted]]
    details: dict[str, object] = {
        "decisions": DECISIONS,
        "canary": CANARY,
        "base_rate": BASE_RATE,
        "seed": seed,
        "null": rate(passes["null"]) | _readings(null),
        "lift15": rate(passes["lift15"]) | _readings(lifted),
        "coverage": {"null": rate([one.covered for one in null]), "lift15": rate([one.covered for one in lifted])},
        "refused": {"null": _counted(null), "lift15": _counted(lifted)},
    }
    for base_rate in () if quick else RATES:
        some = {name: runs(lift, RUNS // 4, seed=seed, base_rate=base_rate) for name, lift in LIFTS.items()}
        details[f"at {base_rate:.1%}"] = {
            name: rate([not one.refused for one in found]) | _readings(found) for name, found in some.items()
        }
    return {
        "gate_null_pass_rate": rate(passes["null"])["rate"],
        "gate_lift15_pass_rate": rate(passes["lift15"])["rate"],
        "lower_bound_coverage": rate(covered)["rate"],
        "gate_details": details,
    }


def _readings(found: Sequence[Verdicts]) -> dict[str, float]:
    """Step 3 against the champion alone: with the bound above zero, and with it 1 % below allowed."""
    return {
        "champion_proof": float(np.mean([one.passes(proof=True) for one in found])),
        "champion_within_1_percent": float(np.mean([one.passes(proof=False) for one in found])),
        "relative_error": float(np.std([(one.champion.difference - one.truth) / one.champion.value for one in found])),
    }


def _counted(found: Sequence[Verdicts]) -> dict[str, int]:
    """How many logs each check refused."""
    return dict(Counter(check for one in found for check in one.refused).most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few logs instead of hundreds")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    json.dump(measure(chosen.quick, chosen.seed), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
