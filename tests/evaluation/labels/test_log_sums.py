import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.domain import NOTHING
from decisioning.errors import UserError
from evaluation.labels.labels import label
from evaluation.labels.log_sums import check_probabilities


def drawn(make_tables, make_catalog, shares, said=None, n=3000, per_user=1, seed=0):
    """A log of draws with these shares (rows, arms), one draw for each user; `said` is what it claims they were."""
    rng, arms = np.random.default_rng(seed), ("a", "b", NOTHING)[: shares.shape[1]]
    who = np.arange(n) // per_user
    shares = shares[rng.integers(0, len(shares), who[-1] + 1)]
    shown = (rng.random(len(shares))[:, None] > shares.cumsum(axis=1)).sum(axis=1).clip(max=len(arms) - 1)
    p = shares[np.arange(len(shares)), shown] if said is None else np.full(len(shares), said)
    rows = [(user, arms[shown[user]], p[user], arms) for user in who]
    return label(make_tables(rows), make_catalog(), "m")


@given(
    weights=st.lists(st.tuples(*[st.sampled_from([0.0, 0.01, 1.0, 5.0])] * 3), min_size=1, max_size=4).filter(
        lambda rows: all(map(sum, rows))
    ),
    per_user=st.sampled_from([1, 7]),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sound_log_is_refused(make_tables, make_catalog, weights, per_user, seed):
    """Whatever the policy, offers without any chance among the eligible ones, and users who keep what they drew."""
    shares = np.array(weights) / np.array(weights).sum(axis=1, keepdims=True)
    try:
        logged = drawn(make_tables, make_catalog, shares, n=700, per_user=per_user, seed=seed)
    except UserError:
        return  # nothing but NOTHING was shown
    check_probabilities(logged)


@pytest.mark.parametrize("said", [0.05, 0.25])
def test_an_offer_shown_more_often_than_it_had_a_chance_is_refused(make_tables, make_catalog, said):
    logged = drawn(make_tables, make_catalog, np.array([[0.5, 0.5]]), said)
    with pytest.raises(UserError, match=rf"a was shown in (49|50|51).*chance of about {said:.1%}: they don't add up"):
        check_probabilities(logged)


@pytest.mark.parametrize("said", [0.6, 0.9])
def test_chances_that_nobody_took_are_refused(make_tables, make_catalog, said):
    logged = drawn(make_tables, make_catalog, np.array([[0.5, 0.5]]), said)
    with pytest.raises(UserError, match="The probabilities of 3,000 decisions don't add up"):
        check_probabilities(logged)


def test_a_log_without_any_choice_is_no_lie(make_tables, make_catalog):
    check_probabilities(drawn(make_tables, make_catalog, np.array([[1.0, 0.0], [0.0, 1.0]])))
