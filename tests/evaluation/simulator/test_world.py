import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Catalog, Offer, Score, Surface
from evaluation.simulator.world import (
    LATENTS,
    MARKET_SHARES,
    level,
    loadings,
    make_population,
    make_truth,
    policy_values,
    sigmoid,
    usual_rate,
)


def offer(name: str, kind: str = "", value: float = 1.0) -> Offer:
    return Offer(name, "pm", "merch", ("home",), Score(value=value), attributes={"kind": kind} if kind else {})


@pytest.fixture
def truth():
    catalog = Catalog("h", surfaces={"home": Surface("home")}, offers={name: offer(name) for name in ("a", "b")})
    rng = np.random.default_rng(1)
    return make_truth(rng, catalog, make_population(rng, 500))


@given(st.floats(0.001, 0.5), st.floats(0.1, 3.0))
def test_the_level_makes_the_mean_rate(rate, spread):
    logits = np.linspace(-spread, spread, 101)
    assert sigmoid(logits + level(logits, rate)).mean() == pytest.approx(rate, rel=1e-6)


def test_fatigue_lowers_every_chance_until_ten_were_seen(truth):
    fresh, tired, spent, beyond = (truth.true_p(7, "home", seen) for seen in (0, 3, 10, 50))
    assert (fresh > tired).all()
    assert (tired > spent).all()
    assert (spent == beyond).all()


def test_what_is_closed_can_not_convert(truth):
    p = truth.true_p(7, "home", 0, np.array([True, False]))
    assert p[0] == 0.0
    assert 0.0 < p[1] < 1.0


def test_an_offer_of_an_unknown_kind_has_tastes_that_follow_from_its_name():
    assert (loadings(offer("kite")) == loadings(offer("kite"))).all()
    assert (loadings(offer("kite")) != loadings(offer("yacht"))).any()
    assert loadings(offer("tonic", kind="hifi"))[LATENTS.index("sound")] == 1.2


def test_dear_offers_convert_less_often():
    rates = [usual_rate(offer("o", value=value)) for value in (0.1, 2.0, 10.0, 40.0, 1e6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.01


def test_listeners_come_from_every_market_and_tier():
    people = make_population(np.random.default_rng(1), 2_000)
    assert set(people.market) == set(MARKET_SHARES)
    assert set(people.tier) == {0, 1, 2}
    assert len(set(people.ids)) == 2_000
    assert people.signup_days.min() > 28


def test_policy_values_in_a_case_done_by_hand():
    p = np.array([[0.5, 0.1], [0.1, 0.3], [0.3, 0.9], [0.0, 0.0]])
    may = np.array([[True, True], [True, True], [True, False], [False, False]])
    values = policy_values(p, may, ["home"] * 4, net=np.array([1.0, 2.0]))
    # Net values: (0.5, 0.2), (0.1, 0.6), (0.3, –), none. The means over who may: 0.3 and 0.4, so the second goes first.
    assert values["optimal"] == pytest.approx((0.5 + 0.6 + 0.3) / 4)
    assert values["random"] == pytest.approx((0.35 + 0.35 + 0.3) / 4)
    assert values["best_single_offer"] == pytest.approx((0.2 + 0.6 + 0.3) / 4)


@given(st.integers(0, 2**32 - 1))
def test_the_best_choice_is_never_worth_less_than_the_best_single_offer(seed):
    rng = np.random.default_rng(seed)
    p, may, net = rng.random((30, 4)), rng.random((30, 4)) < 0.6, rng.random(4)
    values = policy_values(p, may, rng.choice(["a", "b"], 30), net)
    assert values["optimal"] >= values["best_single_offer"] - 1e-12
    assert values["optimal"] >= values["random"] - 1e-12
