"""Policies in a world: common random numbers, late outcomes, exact probabilities, and references that are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog_yaml import load_catalog
from evaluation.arena.life import Ask, State, drawn, even, live, warm_up
from evaluation.arena.log import Log, fresh, logged
from evaluation.arena.lookahead import Informed, LookAhead, Myopic, backwards, interpolated, most_fatigue
from evaluation.arena.peers import LinTS
from evaluation.arena.policies import BestSingleOffer, Random, Recipe, StaticPriority, Trained
from evaluation.arena.world import WARM_UP, make_world
from evaluation.values.estimators import Estimate, Rows, dr
from stores.catalog_files import read_catalog_files

SAMPLE = load_catalog(read_catalog_files(Path(__file__).parents[3] / "catalog"))
CHEAP = Recipe("pooled", {"iterations": 15}, shrinkage=0.75)


@pytest.fixture(scope="module")
def start():
    return warm_up(make_world(SAMPLE, users=1_500, days=28, seed=3))


@pytest.fixture(scope="module")
def ours(start):
    return live(start, Trained(start.world, CHEAP))


def same(one, two) -> bool:
    mine, other = one.log.all(), two.log.all()
    return one.earned == two.earned and all(
        np.array_equal(getattr(mine, name), getattr(other, name)) for name in ("user", "action", "converts_on", "seen")
    )


def test_two_copies_of_a_policy_earn_the_same_to_the_bit_whoever_lived_in_between(start, ours):
    live(start, Random())
    assert same(live(start, Trained(start.world, CHEAP)), ours)
    lints = live(start, LinTS(start.world, 1))
    live(start, BestSingleOffer(start.world))
    assert same(live(start, LinTS(start.world, 1)), lints)


def test_where_two_policies_show_the_same_to_rested_users_the_same_follows(start):
    """Common random numbers: outcomes hang on who, when and what alone."""
    one, two = (followed(live(start, policy)) for policy in (Random(), Myopic(start.world)))
    both = [key for key in one if key in two]
    assert len(both) > 500
    assert all(one[key] == two[key] for key in both)


def followed(life) -> dict:
    """(day, user, action, fatigue) → when that converted."""
    made = life.log.all()
    made = made.take(np.flatnonzero(made.day >= WARM_UP))
    keys = zip(made.day, made.user, made.action, made.fatigue, strict=True)
    return dict(zip(keys, made.converts_on, strict=True))


def test_the_myopic_oracle_regrets_nothing_and_everybody_else_something(start, ours):
    assert live(start, Myopic(start.world)).regret == pytest.approx(0.0, abs=1e-12)
    assert ours.regret > 0.01
    assert live(start, Informed(start.world)).regret > 0.01


def test_looking_ahead_earns_more_than_the_best_of_each_moment_under_fatigue():
    for seed in (1, 2):
        start = warm_up(make_world(SAMPLE, users=1_500, days=28, seed=seed))
        ahead, now = (live(start, policy(start.world)) for policy in (LookAhead, Myopic))
        assert ahead.earned > now.earned
        assert ahead.shown < now.shown
        assert ahead.fatigue < now.fatigue


def test_without_fatigue_there_is_nothing_to_look_ahead_for():
    start = warm_up(make_world(SAMPLE, users=500, days=10, seed=1, fatigue=0.0))
    assert same(live(start, LookAhead(start.world)), live(start, Myopic(start.world)))


def test_heavier_fatigue_makes_looking_ahead_worth_more():
    leads = []
    for fatigue in (0.05, 0.1, 0.4):
        start = warm_up(make_world(SAMPLE, users=1_000, days=21, seed=1, fatigue=fatigue))
        leads.append(live(start, LookAhead(start.world)).earned / live(start, Myopic(start.world)).earned)
    assert leads == sorted(leads)
    assert leads[-1] > 1.05


def test_the_values_of_looking_ahead_are_what_it_then_earns(start):
    """Bellman's values at the first day, from each user's own fatigue, against what the policy really got."""
    world, grid = start.world, np.linspace(0.0, most_fatigue(), 12)
    foreseen = interpolated(grid, backwards(world, grid)[0], start.state.fatigue).sum()
    life = live(start, LookAhead(world))
    assert life.daily.sum() == pytest.approx(foreseen, rel=0.03)


def test_fatigue_grows_with_what_is_shown_and_fades_without():
    state = State.fresh(2)
    for day in range(3):
        state.end_day(day, np.array([0]))
    assert state.fatigue[0] > state.fatigue[1] == 0.0
    assert state.shown.sum(axis=0).tolist() == [3, 0]
    peak = state.fatigue[0]
    for day in range(3, 9):
        state.end_day(day, np.array([], int))
    assert 0.0 < state.fatigue[0] < 0.5 * peak
    assert state.shown.sum(axis=0).tolist() == [1, 0]  # the third day's, six days ago


def test_no_outcome_is_seen_before_its_time(start, ours):
    """Were every later conversion to fail, a policy would know exactly the same on that day."""
    day = WARM_UP + 14
    future = [
        replace(part, converts_on=np.where(part.converts_on < day, part.converts_on, np.inf)) for part in ours.log.parts
    ]
    spoiled = Log(start.world, future)
    for look in (Log.matured, Log.open):
        (made, mine), (_, other) = look(ours.log, day), look(spoiled, day)
        assert (made.day < day).all()
        np.testing.assert_array_equal(mine, other)
    assert (ours.log.all().converts_on[ours.log.all().day < day] >= day).sum() > (
        ~np.isfinite(ours.log.all().converts_on[ours.log.all().day < day])
    ).sum()  # some do convert later: the test could fail


def test_matured_and_open_decisions_are_all_that_was_decided_each_once(start, ours):
    day = WARM_UP + 20
    (old, _), (new, _) = ours.log.matured(day), ours.log.open(day)
    assert len(old) + len(new) == (ours.log.all().day < day).sum()
    assert old.day.max() + start.world.within < day <= new.day.min() + start.world.within
    parts = [ours.log.matured(one, since)[0] for since, one in ((0, 30), (30, 45), (45, day))]
    assert sum(map(len, parts)) == len(old)


def test_weighted_open_conversions_stand_for_those_still_to_come(start):
    totals = []
    for day in range(WARM_UP - 10, WARM_UP + 1):
        known = fresh(start.world, start.log, day)
        made, _ = start.log.open(day)
        late = (made.converts_on <= made.day + start.world.within).sum()
        totals.append((known.conversion @ known.weight, known.conversion.sum(), late))
    weighted, seen, late = np.sum(totals, axis=0)
    assert seen < 0.96 * late
    assert weighted == pytest.approx(late, rel=0.03)


def test_probabilities_are_those_that_were_drawn_with(start, ours):
    made = ours.log.all()
    kept = made.day >= WARM_UP
    made = made.take(np.flatnonzero(kept))
    may = start.world.may(made.user, made.surface)
    count = may.sum(axis=1)
    best = made.probability > 0.9
    np.testing.assert_allclose(made.probability, np.where(best, 0.95, 0.0) + 0.05 / count)
    # How often something else than the best is drawn is what the mixture says.
    expected, spread = (0.05 * (1 - 1 / count)).sum(), np.sqrt((0.05 * (1 - 1 / count)).sum())
    assert abs((~best & (count > 1)).sum() - expected) < 4 * spread


def test_logs_of_ours_say_what_random_is_truly_worth_and_refuse_what_they_can_not_say():
    """DR from explored logs of six worlds against the truth at the same states."""
    total, static, truths = [], [], []
    for seed in range(6):
        start = warm_up(make_world(SAMPLE, users=1_000, days=14, seed=seed))
        found, truth = judged(start.world, live(start, Trained(start.world, CHEAP)))
        found = replace(found, user=found.user + 1_000 * seed)
        total.append(dr_of(found, even(found.eligible)))
        ask = Ask(0, found.user, found.surface, found.eligible, np.zeros((found.n, 0)), np.zeros(found.n))
        static.append(dr_of(found, StaticPriority(start.world).probabilities(ask)))
        truths.append((even(found.eligible) * truth).sum(axis=1))
    whole = sum(total[1:], total[0])
    assert whole.lacking() is None
    assert whole.weight / whole.n == pytest.approx(1.0, abs=0.04)
    low, high = whole.interval()
    assert low < np.concatenate(truths).mean() < high
    assert "not enough support" in sum(static[1:], static[0]).lacking()


def test_the_value_of_the_logging_policy_off_policy_is_its_own_mean(start, ours):
    found, truth = judged(start.world, ours)
    estimate = dr_of(found, None)
    assert estimate.value == pytest.approx(found.reward.mean())
    low, high = estimate.interval()
    assert low < truth[np.arange(found.n), found.action].mean() < high


def judged(world, life):
    """The comparison's decisions as they end, and (n, offers) the true net value of each offer at each of them."""
    made = life.log.all()
    made = made.take(np.flatnonzero(made.day >= WARM_UP))
    days = range(WARM_UP, WARM_UP + world.days)
    rows = [(day, made.take(np.flatnonzero(made.day == day))) for day in days]
    truth = np.vstack([world.p(day, part.user, part.surface, part.fatigue) for day, part in rows])
    return logged(world, made, np.isfinite(made.converts_on).astype(float)), truth * world.net


def dr_of(found, policy: np.ndarray | None) -> Estimate:
    """DR with one mean rate for all as q̂; None: the policy that logged."""
    at, q = np.arange(found.n), np.broadcast_to(0.3 * found.conversion.mean() * found.net, found.eligible.shape)
    own = q[at, found.action]
    weight = np.ones(found.n) if policy is None else policy[at, found.action] / found.probability
    rows = Rows(found.user, found.reward, weight, own, own if policy is None else (policy * q).sum(axis=1))
    return Estimate.of(rows, *dr(rows))


@given(st.integers(0, 2**32 - 1))
def test_a_draw_falls_on_what_has_a_chance_and_on_nothing_where_nothing_may_be_shown(seed):
    rng = np.random.default_rng(seed)
    may = rng.random((40, 5)) < 0.5
    action = drawn(even(may), rng.choice([0.0, 1 - 2**-53, 0.3, 0.9], 40))
    assert ((action == -1) == ~may.any(axis=1)).all()
    rows = action >= 0
    assert may[rows, action[rows]].all()


def test_a_policy_that_rests_half_the_time_is_drawn_so():
    chances, draws = np.full((1_000, 2), 0.25), (np.arange(1_000) + 0.5) / 1_000
    assert np.bincount(drawn(chances, draws) + 1).tolist() == [500, 250, 250]


def test_static_priority_puts_the_class_before_the_guess(start):
    world = start.world
    rank = dict(zip(world.offers, StaticPriority(world)._rank, strict=True))
    assert rank["gift_card"] == 0  # the only one of a lower class
    assert rank["winback_quarter"] == len(world.offers) - 1  # 0.04 × 16
