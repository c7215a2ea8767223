"""The world that policies are compared in: what is fixed before any of them starts."""

from pathlib import Path

import numpy as np
import pytest

from decisioning.catalog import Catalog, Group, Offer, Score, Surface
from decisioning.catalog_yaml import load_catalog
from decisioning.conditions import AllOf, AnyOf, Op, Test
from decisioning.errors import UserError
from evaluation.arena.life import Ask, greatest
from evaluation.arena.lookahead import Informed
from evaluation.arena.rules import may_hold
from evaluation.arena.world import FADES, LATENTS, SEEN, WARM_UP, fade, make_world, surface_shares, visit_rates
from models.frames import encode_facts
from stores.catalog_files import read_catalog_files

SAMPLE = load_catalog(read_catalog_files(Path(__file__).parents[3] / "catalog"))


@pytest.fixture(scope="module")
def world():
    return make_world(SAMPLE, users=3_000, days=14, seed=4)


def test_the_same_seed_makes_the_same_world_and_another_seed_another():
    one, two, other = (make_world(SAMPLE, users=500, days=3, seed=seed) for seed in (4, 4, 5))
    for name in ("logits", "places", "season", "signals", "visits", "mind", "patience", "draw", "eligible"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert name == "eligible" or (getattr(one, name) != getattr(other, name)).any()


def test_more_days_only_add_to_the_chances_of_the_users_that_were_there():
    short, long = (make_world(SAMPLE, users=500, days=days, seed=4) for days in (3, 30))
    np.testing.assert_array_equal(short.logits, long.logits)
    np.testing.assert_array_equal(short.signals, long.signals)


def test_fatigue_fades_to_a_third_in_a_week_and_lowers_every_chance(world):
    assert fade(np.ones(1))[0] ** FADES == pytest.approx(np.exp(-1.0))
    user, surface = np.arange(50), np.zeros(50, int)
    rested, weary, spent = (world.p(50, user, surface, np.full(50, tired)) for tired in (0.0, 3.0, 40.0))
    assert (rested > weary).all()
    assert (weary > spent).all()
    np.testing.assert_array_equal(spent, world.p(50, user, surface, np.full(50, 10.0)))


def test_features_show_as_much_of_each_taste_as_they_are_said_to(world):
    for at, name in enumerate(LATENTS):
        shown = np.corrcoef(world.signals[:, at], world.people.tastes[:, at])[0, 1] ** 2
        assert shown == pytest.approx(SEEN[name], abs=0.04)


def test_choosing_by_value_is_worth_the_known_fact_more_than_choosing_by_probability():
    """What the rates are set by: 23 % for somebody who reads the features perfectly. No learner has a say in it."""
    leads = []
    for seed in range(5):
        world = make_world(SAMPLE, users=3_000, days=1, seed=seed)
        user = np.arange(3_000)
        surface = np.random.default_rng(seed).choice(len(world.surfaces), 3_000, p=surface_shares(world.surfaces))
        may, fatigue = world.may(user, surface), np.full(3_000, 3.0)
        weight = visit_rates(world.people)[:, None]
        value = world.p(WARM_UP, user, surface, fatigue) * world.net * weight
        reader = Informed(world)
        reads = reader.value(Ask(WARM_UP, user, surface, may, np.zeros((3_000, 0)), fatigue))
        by_value, by_chance = ((greatest(s, may) * value).sum() for s in (reads, reads / world.net))
        leads.append(by_value / by_chance - 1)
    assert np.mean(leads) == pytest.approx(0.23, abs=0.05)


def test_contexts_are_what_the_frames_encode_to(world):
    day, user = 47, np.array([3, 1, 2_000, 1])
    surface, seen = np.array([0, 3, 2, 5]), np.array([0, 2, 7, 1])
    names = np.array(world.surfaces, object)[surface]
    expected = encode_facts(world.encoding, world.facts(np.full(4, day), user, seen), names)
    np.testing.assert_array_equal(world.contexts(day, user, surface, seen), expected)


def test_the_catalogs_own_conditions_on_tier_and_market_hold(world):
    offers = dict(zip(world.offers, world.eligible.T, strict=True))
    premium, basic = world.people.tier == 2, world.people.tier == 1
    assert not offers["premium_annual"][premium].any()
    assert offers["basic_monthly"][world.people.tier == 0].all()
    assert not offers["basic_monthly"][basic].any()
    assert not offers["headphones_partner"][world.people.market == "IN"].any()
    assert offers["signed_poster"].all()


def test_what_nobody_knows_is_taken_to_be_so():
    free, rich = Test("tier", Op.IS, ("free",)), Test("income", Op.MIN, 10.0)
    known = {"tier": "premium"}
    assert not may_hold(AllOf((free, rich)), known)
    assert may_hold(AnyOf((free, rich)), known)
    assert may_hold(AllOf((free, rich)), {"tier": "free"})


def test_a_catalog_without_a_model_has_nothing_to_learn():
    offers = {"a": Offer("a", "pm", "plans", ("home",), Score())}
    catalog = Catalog("h", groups={"plans": Group("plans")}, surfaces={"home": Surface("home")}, offers=offers)
    with pytest.raises(UserError, match="nothing to learn"):
        make_world(catalog, users=50, days=1, seed=0)
