"""The log checks: sound logs of the engine pass, and what happens after the draw shows."""

import random
from dataclasses import replace
from functools import reduce
from itertools import count, islice
from math import comb, sqrt
from pathlib import Path

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import MILLION, NOTHING, Facts, HistoryEvent, Request, Scores, Shown
from decisioning.engine import Release, decide
from decisioning.exploration import chosen, mixture
from decisioning.identity import draw
from evaluation.recorded.log_checks import CHAMPION, WEIGHT, LogCheck, Tally, check_log
from stores.catalog_files import read_catalog_files

NOW = 1_795_348_800.0  # 2026-11-22T12:00Z
DAY = 86_400.0
DECISIONS, FEW = 200_000, 20_000
SURFACES = ["home_banner", "home_banner", "paywall", "merch_shelf", "now_playing", "checkout"]


class Noisy:
    """A scorer that finds each offer better for some users than for others."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.label = f"noisy/{seed}"
        self._rows = [[chance.uniform(0.001, 0.05) for _ in range(40)] for _ in range(97)]

    def score(self, features, surface, offers):
        found = self._rows[features["days_on_tier"] % 97][: len(offers)]
        return Scores(found, found)

    def prior(self, surface, offers):
        found = [0.01] * len(offers)
        return Scores(found, found)


def drawn(release):
    """Decisions that drew, about listeners who differ in all that the rules ask; without end."""
    chance = random.Random(1)
    offers = sorted(release.catalog.offers)
    for number in count():
        features = {
            "tier": chance.choice(["free", "free", "basic", "premium"]),
            "market": chance.choice(["SE", "US", "BR", "IN"]),
            "age_band": chance.choice(["18_24", "25_34", "50_plus"]),
            "is_student": chance.random() < 0.2,
            "days_on_tier": chance.randrange(400),
            "days_since_signup": chance.randrange(400, 900),
            "had_trial": chance.random() < 0.3,
            "past_premium": chance.random() < 0.2,
            "sessions_7d": chance.randrange(12),
            "skips_limited_7d": chance.randrange(8),
            "ads_heard_7d": chance.randrange(40),
            "hifi_device": chance.random() < 0.4,
            "payment_failed": chance.random() < 0.05,
            "consent_marketing": chance.random() < 0.9,
        }
        history = tuple(
            HistoryEvent("impression", chance.choice(offers), "home_banner", NOW - chance.uniform(0, 9) * DAY)
            for _ in range(chance.randrange(4))
        )
        request = Request(f"d{number}", f"u{number % 50_000}", chance.choice(SURFACES), NOW, {"device": "phone"})
        decision = decide(release, request, Facts(features, NOW, history, {"presale_tickets": 0, "long_trials": 0}))
        if decision.policy is not None:
            yield decision


@pytest.fixture(scope="module")
def release():
    catalog = load_catalog(read_catalog_files(Path(__file__).parents[3] / "catalog"))
    catalog = replace(catalog, exploration=replace(catalog.exploration, uniform=0.05, challenger=0.05))
    models = {name: Noisy(1) for name in catalog.models}
    return Release("r", catalog, models, {name: Noisy(2) for name in catalog.models}, salt="log checks")


@pytest.fixture(scope="module")
def simulated(release):
    """The first decisions, and the check of all of them, made in ten parts."""
    stream = drawn(release)
    few = list(islice(stream, FEW))
    parts = [check_log(few)]
    parts += [check_log(islice(stream, FEW)) for _ in range(DECISIONS // FEW - 1)]
    return few, reduce(LogCheck.__add__, parts)


def test_two_hundred_thousand_decisions_of_the_engine_pass(simulated):
    _, check = simulated
    assert check.problems() == ()
    assert check.decisions == DECISIONS
    assert len(check.arms) > 15
    assert check.mean_weight == pytest.approx(1.0, abs=4 * sqrt(check.whole[WEIGHT].variance) / check.decisions)
    z = [tally.z for tally in check.arms.values() if tally.variance > 10]
    assert max(map(abs, z)) < 4
    assert sum(one**2 for one in z) / len(z) == pytest.approx(1.0, abs=0.6)  # as wide as chance makes them


def test_the_first_decisions_alone_pass(simulated):
    few, _ = simulated
    assert check_log(few).ok


def shows(decision, offer):
    slate = () if offer == NOTHING else (Shown(offer, 1, None, None, None, 1.0),)
    return replace(decision, slate=slate)


def another(decision, chance):
    """A filter that puts something else that was left in the place of what the draw chose."""
    others = [name for name in decision.policy.offers if name != decision.first]
    return shows(decision, chance.choice(others)) if others else decision


def nothing(decision, chance):
    return shows(decision, NOTHING)


@pytest.mark.parametrize("filtered", [another, nothing])
@pytest.mark.parametrize("seed", range(3))
def test_a_filter_after_the_draw_that_touches_one_percent_is_caught_at_twenty_thousand_decisions(
    simulated, filtered, seed
):
    few, _ = simulated
    chance = random.Random(seed)
    planted = [filtered(d, chance) if chance.random() < 0.01 else d for d in few]
    assert not check_log(planted).ok


def test_a_filter_on_one_offer_that_touches_one_percent_is_caught_and_named(simulated):
    few, _ = simulated
    firsts = [d.first for d in few]
    offer = min(set(firsts) - {NOTHING}, key=lambda name: abs(firsts.count(name) - FEW / 100))
    assert 0.005 * FEW < firsts.count(offer) < 0.02 * FEW
    chance = random.Random(0)
    planted = [another(d, chance) if d.first == offer else d for d in few]
    assert any(problem.startswith(offer) for problem in check_log(planted).problems())


def test_explored_decisions_that_get_lost_are_caught(simulated):
    few, _ = simulated
    chance = random.Random(0)
    explored = [d.first not in (d.policy.champion, d.policy.challenger) for d in few]
    lost = 0.01 * FEW / sum(explored)
    planted = [
        d for d, was_explored in zip(few, explored, strict=True) if not (was_explored and chance.random() < lost)
    ]
    assert not check_log(planted).ok


# --- The tallies ------------------------------------------------------------------------------------------------------


EMPTY = (
    b"{surfaces: {home: {fallback: null}, wall: {fallback: null}}, offers: {a: {owner: o, group: g, surfaces: [wall]}}}"
)
TEMPLATE = decide(Release("r", load_catalog({"c.yaml": EMPTY})), Request("d", "u", "home", NOW), Facts())


def a_log(size, seed, uniform=0.3, actions=5):
    """The policies and first slots of a small sound log."""
    names = tuple(f"o{n}" for n in range(actions))
    for number in range(size):
        champion = names[(number * 7 + seed) % actions]
        policy = mixture(names, champion, None, uniform=uniform, canary=0.0, draw=draw(f"{seed}", f"d{number}"))
        yield replace(shows(TEMPLATE, chosen(policy)), policy=policy)


def test_parts_of_a_log_add_up_in_any_order():
    log = list(a_log(300, seed=1))
    whole = check_log(log)
    parts = [check_log(log[:50]), check_log(log[50:51]), check_log(log[51:])]
    for ordered in (parts, parts[::-1]):
        summed = reduce(LogCheck.__add__, ordered, LogCheck())
        assert summed.decisions == whole.decisions == 300
        for ours, theirs in ((summed.whole, whole.whole), (summed.arms, whole.arms)):
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert ours[name].observed == pytest.approx(theirs[name].observed)
                assert ours[name].expected == pytest.approx(theirs[name].expected)
                assert ours[name].variance == pytest.approx(theirs[name].variance)


def test_the_tallies_are_those_of_the_formulas():
    log = list(a_log(400, seed=3, uniform=0.5))
    check = check_log(log)
    for arm, tally in check.arms.items():
        p = [d.policy.weight(arm) / MILLION for d in log]
        assert tally.observed == sum(d.first == arm for d in log)
        assert tally.z == pytest.approx((tally.observed - sum(p)) / sqrt(sum(x * (1 - x) for x in p)))
    weights = [0.2 / (d.policy.weight(d.first) / MILLION) for d in log]
    assert check.mean_weight == pytest.approx(sum(weights) / len(weights))
    variances = [sum(0.2**2 / (w / MILLION) for w in d.policy.weights) - 1 for d in log]
    assert check.whole[WEIGHT].variance == pytest.approx(sum(variances))


def test_sound_logs_of_any_size_fail_no_more_often_than_alpha_says():
    failed = sum(bool(check_log(a_log(size, seed)).problems(alpha=0.1)) for size in (5, 40, 400) for seed in range(60))
    assert failed <= 0.1 * 180


@pytest.mark.parametrize(("n", "p", "seen"), [(10, 0.02, 3), (50, 0.01, 4), (20, 0.5, 17), (200, 0.001, 2)])
def test_for_few_decisions_the_p_value_is_a_bound_on_the_exact_one(n, p, seen):
    exact = sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(seen, n + 1))
    assert Tally(seen, n * p, n * p * (1 - p)).p_value >= exact


def test_what_had_no_chance_is_a_problem_of_its_own():
    log = [shows(d, "smuggled") for d in a_log(3, seed=1)]
    assert check_log(log).problems()[0] == "3 of 3 decisions show what had no chance of being shown."


def test_decisions_that_left_nothing_to_chance_are_no_problem():
    certain = list(a_log(50, seed=1, uniform=0.0))
    check = check_log(certain)
    assert check.ok
    assert check.whole[CHAMPION].z == 0.0
    assert WEIGHT not in check.whole
    assert check_log([TEMPLATE]) == LogCheck()
