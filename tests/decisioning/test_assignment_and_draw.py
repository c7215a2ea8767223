"""Who is in which arm, and where a draw falls."""

from collections import Counter
from dataclasses import replace

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Arm, Catalog, Experiment, Holdout
from decisioning.conditions import Op, Test, holds
from decisioning.domain import MILLION
from decisioning.experiments import Assignment, bucket
from decisioning.exploration import certain, chosen, mixture
from decisioning.identity import draw, sticky_decision_id, user_digests, user_key

USERS = [f"user-{n}" for n in range(5000)]


def experiment(percent=100.0, starts_at=0.0, name="price", **changes):
    arms = (Arm("control", 50.0), Arm("deeper", 50.0))
    return Experiment(name, "pricing", arms, starts_at=starts_at, percent=percent, **changes)


def arms(user, *experiments, values=None):
    audiences = (one.audience is None or holds(one.audience, values or {}, 0.0) for one in experiments)
    bits = sum(inside << n for n, inside in enumerate(audiences))
    return Assignment(Catalog("h", experiments=experiments)).arms(user, bits)


def test_buckets_are_those_of_the_published_algorithm():
    assert bucket("MegaSalt-confidence-test", "roug", 1_000_000) == 567493


@given(st.text(), st.text(), st.integers(1, 2**62))
def test_buckets_are_the_low_bits_of_the_hash_whatever_its_sign_would_be(salt, user, buckets):
    low = int.from_bytes(mmh3.hash_bytes(f"{salt}|{user}".encode())[:8], "little")
    assert bucket(salt, user, buckets) == (low >> 4) % buckets


def test_a_ramp_only_adds_users_and_moves_nobody_between_arms():
    before = {}
    for percent in (1.0, 5.0, 25.0, 100.0):
        now = {user: found["price"] for user in USERS if (found := arms(user, experiment(percent)))}
        assert before.items() <= now.items()
        assert len(now) / len(USERS) == pytest.approx(percent / 100, abs=0.03)
        before = now
    assert set(before.values()) == {"control", "deeper"}


def test_experiments_of_one_layer_with_disjoint_ranges_never_share_a_user():
    both = (experiment(50.0, 0.0, "a"), experiment(50.0, 50.0, "b"))
    assert all(len(arms(user, *both)) == 1 for user in USERS)


def test_a_seat_at_the_border_of_two_experiments_belongs_to_the_later_one_alone():
    border = USERS[0]
    percent = bucket("layer:pricing", border) / 10_000  # the first experiment ends just before this user's seat
    both = (experiment(percent, 0.0, "a"), experiment(100.0 - percent, percent, "b"))
    assert set(arms(border, *both)) == {"b"}


def test_the_arm_is_independent_of_the_seat_in_the_layer():
    low = Counter(arms(user, experiment(50.0))["price"] for user in USERS if arms(user, experiment(50.0)))
    assert low["control"] / low.total() == pytest.approx(0.5, abs=0.04)


def test_an_audience_keeps_others_out():
    audience = Test("tier", Op.IS, ("free",))
    assert arms("u", experiment(audience=audience), values={"tier": "premium"}) == {}
    assert arms("u", experiment(audience=audience), values={"tier": "free"}) != {}


def test_a_holdout_keeps_its_share_on_its_surfaces_only():
    catalog = Catalog("h", holdouts=(Holdout("global", 2.0, "h26q4", frozenset({"home"})),))
    assignment = Assignment(catalog)
    held = [user for user in USERS if assignment.holdout(user, "home")]
    assert len(held) / len(USERS) == pytest.approx(0.02, abs=0.008)
    assert not any(assignment.holdout(user, "push") for user in held)


@given(
    st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=40, unique=True).map(tuple),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.5),
    st.data(),
)
def test_a_mixture_is_exact_and_gives_each_part_its_share(actions, uniform, canary, data):
    champion = data.draw(st.sampled_from(actions))
    challenger = data.draw(st.none() | st.sampled_from(actions))
    uniform = min(uniform, 1.0 - canary)
    policy = mixture(actions, champion, challenger, uniform=uniform, canary=canary, draw=0)
    assert sum(policy.weights) == MILLION
    share = round(uniform * MILLION) // len(actions)
    assert all(weight >= share - 1 for weight in policy.weights)
    if challenger not in (None, champion):
        weights = dict(zip(policy.offers, policy.weights, strict=True))
        assert weights[challenger] == share + round(canary * MILLION)


def test_draws_fall_on_each_action_as_often_as_its_weight_says():
    policy = mixture(tuple("abcd"), "b", "d", uniform=0.4, canary=0.1, draw=0)
    counts = Counter(chosen(replace(policy, draw=draw("salt", str(n)))) for n in range(20_000))
    for name, weight in zip(policy.offers, policy.weights, strict=True):
        p = weight / MILLION
        assert abs(counts[name] - 20_000 * p) < 4 * (20_000 * p * (1 - p)) ** 0.5


@pytest.mark.parametrize(
    ("target", "action"), [(0, "a"), (99_999, "a"), (100_000, "b"), (300_000, "d"), (399_999, "d"), (400_000, "d"),
                           (499_999, "d"), (500_000, "b"), (999_999, "b")]
)  # fmt: skip
def test_each_slice_of_the_draw_begins_and_ends_where_the_weights_say(target, action):
    policy = mixture(tuple("abcd"), "b", "d", uniform=0.4, canary=0.1, draw=0)
    lowest = -(-target * 2**53 // MILLION)
    assert chosen(replace(policy, draw=lowest)) == action


@given(st.integers(0, 2**53 - 1))
def test_a_certain_policy_is_certain(fate):
    assert chosen(certain("annual", fate)) == "annual"


@given(st.integers(0, 2**53 - 1))
def test_an_action_of_weight_zero_is_never_drawn(fate):
    policy = mixture(tuple("abc"), "b", None, uniform=0.0, canary=0.0, draw=fate)
    assert chosen(policy) == "b"


def test_a_sticky_decision_keeps_its_id_within_its_period_and_changes_with_user_surface_and_period():
    first = sticky_decision_id("u", "home", 1000.0, 600.0)
    assert sticky_decision_id("u", "home", 1199.0, 600.0) == first
    others = [("u", "home", 1200.0), ("v", "home", 1000.0), ("u", "push", 1000.0)]
    assert first not in [sticky_decision_id(*other, 600.0) for other in others]


def test_a_user_key_depends_on_the_secret_and_hides_the_id():
    key = user_key(b"0" * 32, "alice")
    assert len(key) == 32
    assert key != user_key(b"1" * 32, "alice")
    assert "alice" not in key
    assert user_key(b"0" * 32, "\ud800")


@given(st.binary(min_size=16, max_size=64), st.lists(st.text()))
def test_the_keys_of_many_users_are_those_of_each(secret, user_ids):
    assert [one.hex() for one in user_digests(secret, user_ids)] == [user_key(secret, one) for one in user_ids]
