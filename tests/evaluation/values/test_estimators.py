import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.values.estimators import (
    ESTIMATORS,
    RULE_OF_THREE,
    Estimate,
    Rows,
    difference,
    dm,
    dr,
    dros,
    ips,
    snips,
    switch_dr,
)

# Three small logs and what obp 0.5.7 computes on them: figures, not data of anybody's.
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "obp_vectors.json").read_text())["cases"]


def rows_of(logging, target, q_hat, action, reward, user=None):
    at = np.arange(len(action))
    return Rows(
        user=at if user is None else np.asarray(user),
        reward=np.asarray(reward, float),
        weight=target[at, action] / logging[at, action],
        q_logged=q_hat[at, action],
        dm=(target * q_hat).sum(axis=1),
    )


def world(rng, n, arms=3, users=None):
    """Logged decisions of a random policy, and another policy to judge."""
    logging = rng.dirichlet(np.full(arms, 5.0), n)
    action = np.array([rng.choice(arms, p=row) for row in logging])
    rates = np.linspace(0.1, 0.4, arms)
    reward = (rng.random(n) < rates[action]).astype(float)
    target = np.zeros((n, arms))
    target[np.arange(n), rng.integers(0, arms, n)] = 1.0
    q_hat = np.tile(rates, (n, 1)) + rng.normal(0, 0.05, (n, arms))
    return rows_of(logging, target, q_hat, action, reward, None if users is None else np.arange(n) % users)


@pytest.mark.parametrize("case", GOLDEN)
def test_the_published_formulas_agree(case):
    arrays = {name: np.array(case[name]) for name in ("logging", "target", "q_hat", "action", "reward")}
    rows = rows_of(**arrays)
    limit = case["lambda_"]
    terms = {
        "ips": ips(rows), "snips": snips(rows), "dm": dm(rows), "dr": dr(rows),
        "switch_dr": switch_dr(rows, limit), "dros": dros(rows, limit),
    }  # fmt: skip
    found = {name: Estimate.of(rows, *term).value for name, term in terms.items()}
    assert found == pytest.approx(case["expected"], abs=1e-12)


def test_two_arms_by_hand():
    """Half and half logging; the policy always takes arm 1."""
    logging, target = np.full((4, 2), 0.5), np.tile([0.0, 1.0], (4, 1))
    rows = rows_of(logging, target, np.tile([0.0, 0.5], (4, 1)), np.array([0, 1, 1, 1]), [1, 1, 0, 0])
    value = {name: Estimate.of(rows, *terms(rows)).value for name, terms in ESTIMATORS.items()}
    # Σ w r = 2; Σ w = 6; DM = 0.5; the corrections are 2 (1 − .5), 2 (0 − .5), 2 (0 − .5) over 4 rows
    # Switch-DR keeps weights up to 10; DRos takes 100 × 2 / (4 + 100) for 2.
    assert value == pytest.approx(
        {"ips": 2 / 4, "snips": 2 / 6, "dm": 0.5, "dr": 0.5 - 1 / 4, "switch_dr": 0.5 - 1 / 4, "dros": 0.5 - 25 / 104}
    )


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_the_logging_policy_is_worth_its_own_mean(estimator):
    rng = np.random.default_rng(0)
    logging = rng.dirichlet([1.0, 2.0, 3.0], 500)
    action = np.array([rng.choice(3, p=row) for row in logging])
    reward = rng.random(500)
    q_hat = np.tile(reward[:, None], (1, 3))  # a q̂ that is the same for all arms takes DM's noise away
    rows = rows_of(logging, logging, q_hat, action, reward)
    assert Estimate.of(rows, *ESTIMATORS[estimator](rows)).value == pytest.approx(reward.mean(), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), min_size=0, max_size=4))
@settings(max_examples=40, deadline=None)
def test_accumulators_merge_however_the_rows_were_split(seed, cuts):
    rows = world(np.random.default_rng(seed), 60, users=17)
    edges = [0, *sorted(cuts), 60]
    for terms in ESTIMATORS.values():
        x, d = terms(rows)
        whole = Estimate.of(rows, x, d)
        parts = []
        for low, high in pairwise(edges):
            part = Rows(*(getattr(rows, name)[low:high] for name in ("user", "reward", "weight", "q_logged", "dm")))
            parts.append(Estimate.of(part, x[low:high], d[low:high]))
        merged = parts[0]
        for part in parts[1:]:
            merged = merged + part
        assert merged.value == pytest.approx(whole.value, abs=1e-12, nan_ok=True)
        assert merged.interval() == pytest.approx(whole.interval(), abs=1e-12, nan_ok=True)
        assert (merged.n, merged.positives, merged.weight_max) == (whole.n, whole.positives, whole.weight_max)
        assert merged.ess == pytest.approx(whole.ess)


def test_an_interval_is_as_wide_as_its_users_are_few():
    """Every row copied four times, by the same user: nothing new was learned, so the interval stays."""
    rows = world(np.random.default_rng(1), 400)
    copies = Rows(*(np.tile(getattr(rows, name), 4) for name in ("user", "reward", "weight", "q_logged", "dm")))
    one, four = Estimate.of(rows, *dr(rows)), Estimate.of(copies, *dr(copies))
    assert four.interval() == pytest.approx(one.interval(), abs=1e-12)


def test_policies_that_agree_everywhere_differ_by_at_most_three_in_n():
    rows = world(np.random.default_rng(2), 300)
    reward = Rows(rows.user, rows.reward * 5.0, rows.weight, rows.q_logged, rows.dm)
    estimate = Estimate.of(reward, *dr(reward))
    same = difference(estimate, estimate)
    low, high = same.interval()
    assert same.value == 0.0
    assert (low, high) == pytest.approx((-RULE_OF_THREE / 300 * 5, RULE_OF_THREE / 300 * 5))


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_no_interval_has_no_width(estimator):
    """Even where nobody ever converted, or everybody did."""
    for reward in (np.zeros(50), np.ones(50)):
        rows = Rows(np.arange(50), reward, np.ones(50), reward, reward)
        low, high = Estimate.of(rows, *ESTIMATORS[estimator](rows)).interval()
        assert low < reward[0] < high


def test_the_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(3)
    one = world(rng, 3000)
    other = Rows(one.user, one.reward, np.where(one.user < 30, 0.0, one.weight), one.q_logged, one.dm)
    first, second = (Estimate.of(rows, *dr(rows)) for rows in (one, other))
    low, high = difference(first, second).interval()
    assert high - low < 0.3 * (first.interval()[1] - first.interval()[0])
    assert low < first.value - second.value < high
    assert difference(first, second).lower() > low


def test_a_difference_needs_the_same_decisions():
    one, other = (world(np.random.default_rng(4), n) for n in (50, 60))
    with pytest.raises(ValueError, match="same decisions"):
        difference(Estimate.of(one, *dr(one)), Estimate.of(other, *dr(other)))


@pytest.mark.parametrize(
    ("weight", "reward", "reason"),
    [
        (np.ones(999), np.ones(999), "effective sample size 999"),
        (np.append(np.ones(100_000), 201.0), np.ones(100_001), "largest weight is 201"),
        (np.ones(2000), np.append(np.ones(9), np.zeros(1991)), "9 matched positives"),
        (np.ones(2000), np.append(np.ones(10), np.zeros(1990)), None),
    ],
)
def test_too_little_support_says_why(weight, reward, reason):
    rows = Rows(np.arange(len(weight)), reward, weight, reward, reward)
    found = Estimate.of(rows, *dr(rows)).lacking()
    assert found is None if reason is None else reason in found


def test_the_lower_bound_of_a_paired_difference_holds():
    """400 trials of two policies that are worth the same by design: the one-sided bound must stay below the truth."""
    rng = np.random.default_rng(7)
    n, held = 800, 0
    for _ in range(400):
        action = rng.integers(0, 2, n)
        reward = (rng.random(n) < 0.15).astype(float)  # either arm
        choice = rng.integers(0, 2, n)
        estimates = []
        for policy in (choice, np.zeros(n, int)):
            weight = 2.0 * (policy == action)
            rows = Rows(np.arange(n), reward, weight, np.full(n, 0.1), np.full(n, 0.1))
            estimates.append(Estimate.of(rows, *dr(rows)))
        held += difference(*estimates).lower() <= 0.0
    assert held / 400 >= 0.93
