"""How often the gate is right, on simulated canaries whose truth is known. The figures: benchmarks/learning_gate.py."""

import numpy as np
import pytest

from benchmarks.learning_gate import CANARY, EVEN, LIFT, LIFTS, OFFERS, draw, measure, runs, world


@pytest.fixture(scope="module")
def found():
    return {name: runs(lift, 16, seed=3) for name, lift in LIFTS.items()}


def test_few_challengers_that_are_worth_the_same_pass(found):
    assert sum(not one.refused for one in found["null"]) <= 2
    assert all(one.truth == pytest.approx(0.0, abs=1e-12) for one in found["null"])


def test_most_challengers_that_are_worth_15_percent_more_pass(found):
    assert sum(not one.refused for one in found["lift15"]) >= 11
    assert all(one.truth > 0 for one in found["lift15"])


def test_the_lower_bound_lies_below_the_truth(found):
    covered = [one.covered for some in found.values() for one in some]
    assert sum(covered) >= 29


def test_a_simulated_world_holds_what_it_promises():
    """By brute force: the share of conversions of a long log under each policy's own choice."""
    rng = np.random.default_rng(4)
    made = world(rng, LIFT)
    assert made.worth(made.challenger) == pytest.approx(1.15 * made.worth(made.champion))
    log = draw(rng, made, 400_000)
    assert log.probability.max() <= 1
    for choice in (made.champion, made.challenger):
        mine = choice[log.cell] == log.action
        value = (log.conversion * made.net[log.action] * mine / log.probability).sum() / (mine / log.probability).sum()
        assert value == pytest.approx(made.worth(choice), rel=0.05)
    differing = made.champion[log.cell] != made.challenger[log.cell]
    shown = (made.challenger[log.cell] == log.action)[differing].mean()
    assert shown == pytest.approx(CANARY + EVEN / OFFERS, rel=0.05)


@pytest.mark.heavy
def test_the_gate_meets_its_figures():
    result = measure()
    assert result["gate_null_pass_rate"] <= 0.05
    assert result["gate_lift15_pass_rate"] >= 0.80
    assert result["lower_bound_coverage"] >= 0.93
