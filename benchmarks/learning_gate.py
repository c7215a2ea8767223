"""Does the promotion gate let the right ones through? `.venv/bin/python -m benchmarks.learning_gate`

Logs of worlds whose truth is known, as a canary makes them (100,000 decisions; ε = 0.05 even, κ = 0.05 for the
challenger's choice), through the gate's own code: cross-fitted doubly robust differences, calibration, segments.
Half of the challengers are worth exactly what the champion is, half exactly 15 % more. Writes nothing; `benchmarks/
learning.py` collects what `measure` returns.
"""

import sys
from dataclasses import dataclass

import numpy as np

from evaluation.duel import compared, deterministic
from evaluation.gate import Calibration, Comparison, Line, calibration_lines, evidence_lines, refused, segment_lines
from evaluation.reliability import Reliability, calibration_cells
from evaluation.segments import segment_differences

MARKETS, TIERS, TASTES, OFFERS, FOLDS = 4, 3, 8, 5, 5
CELLS = MARKETS * TIERS * TASTES
EVEN, CANARY = 0.05, 0.05
DECISIONS, USERS = 100_000, 30_000
BASE_RATE = 0.05
"""Conversions per decision under the champion, about: how much there is to see in a log hangs on it above all."""
LIFT = 0.15
RUNS, QUICK_RUNS = 400, 20
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
    appeal = rng.normal(0, 0.2, OFFERS) + rng.normal(0, 0.35, (CELLS, OFFERS)) - np.log(net)
    rate = np.exp(appeal)
    best = np.full(CELLS, int((share @ (rate * net)).argmax()))
    champion, challenger = ((appeal + np.log(net) + rng.normal(0, 0.25, appeal.shape)).argmax(1) for _ in range(2))
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

    lines: list[Line]
    champion: Comparison
    truth: float
    """The challenger's true value less the champion's."""

    @property
    def passed(self) -> bool:
        return not refused(self.lines)

    @property
    def passed_as_written(self) -> bool:
        """Had the bound been allowed to lie 1 % below zero against the champion too."""
        others = [line for line in self.lines if not line.check.startswith("certainty against the champion")]
        return not refused([*others, *evidence_lines(self.champion, proof=False)])

    @property
    def covered(self) -> bool:
        return self.champion.lower is not None and self.champion.lower <= self.truth


def judge(made: World, log: Log) -> Verdicts:
    """Steps 2 to 4 of the gate. The challenger's own probabilities are the true ones: it is calibrated."""
    fold, reward = log.user % FOLDS, log.conversion * made.net[log.action]
    q = crossfitted(log)[fold, log.cell] * made.net
    rows = {
        name: deterministic(log.user, reward, log.action, log.probability, choice[log.cell], q)
        for name, choice in (("mine", made.challenger), ("champion", made.champion), ("best", made.best))
    }
    champion = compared("the champion", "net_value", rows["mine"], rows["champion"])
    best = compared("the best single offer", "net_value", rows["mine"], rows["best"])
    market, tier = log.cell % MARKETS, log.cell // MARKETS % TIERS
    p = made.rate[log.cell, log.action]
    curve = Reliability.of(p, log.conversion, log.user)
    cells = calibration_cells(p, log.conversion, log.user, log.action.astype(str), market.astype(str))
    lines = [
        *calibration_lines(Calibration(curve.ece, curve.ece_by_chance, cells)),
        *evidence_lines(champion, proof=True),
        *evidence_lines(best, proof=False),
        *segment_lines(segment_differences(rows["mine"], rows["champion"], {"market": market, "tier": tier}), "it"),
    ]
    return Verdicts(lines, champion, made.worth(made.challenger) - made.worth(made.champion))


def runs(lift: float, count: int, *, seed: int = 0, decisions: int = DECISIONS, **settings: float) -> list[Verdicts]:
    """`count` worlds, each with a log of its own."""
    found = []
    for run in range(count):
        rng = np.random.default_rng([seed, run, round(1000 * (1 + lift))])
        made = world(rng, lift, settings.get("base_rate", BASE_RATE))
        found.append(judge(made, draw(rng, made, decisions, settings.get("canary", CANARY))))
        if (run + 1) % 100 == 0:
            print(f"  {run + 1} of {count} logs with a lift of {lift:+.0%}", file=sys.stderr)
    return found
