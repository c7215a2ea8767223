import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.labels.labels import label
from evaluation.values.crossfit import CrossFit
from evaluation.values.judged import judge
from evaluation.values.uplift_curves import LEARNER, UpliftCurve, gain_edges, uplift_records
from models.encoding import Encoding
from models.learners import fit


def trial(n=20_000, seed=0, p_treated=0.5, base=0.1):
    """Gains are uniform in [-0.1, 0.3] and known: 0.1 on average, 0.24 among the first three tenths; Qini 1/30."""
    rng = np.random.default_rng(seed)
    gain = rng.uniform(-0.1, 0.3, n)
    treated = rng.random(n) < p_treated
    reward = (rng.random(n) < base + np.where(treated, gain, 0.0)).astype(float)
    return gain, treated / p_treated, ~treated / (1 - p_treated), reward, np.arange(n)


def records_of(tables, catalog, learner="logistic"):
    logged = label(tables, catalog, "m")
    encoding = Encoding.of(catalog, logged.surfaces, list(logged.arms) if logged.nothing is not None else ["a", "b"])
    return uplift_records(judge(CrossFit(logged, encoding, lambda sample: fit(learner, encoding, sample, {}, 0))))


def covers(found, truth):
    low, high = found.interval()
    return low < truth < high


@pytest.mark.parametrize("p_treated", [0.5, 0.2])
def test_known_gains_are_found(p_treated):
    curve = UpliftCurve.of(*trial(p_treated=p_treated, base=0.2))
    assert covers(curve.uplift(0.3), 0.24)
    assert covers(curve.gain(1.0), 0.1)
    assert covers(curve.beyond_random(0.3), 0.14)
    assert covers(curve.qini(), 1 / 30)  # ∫ (0.3 φ − 0.2 φ² − 0.1 φ) dφ
    assert curve.qini().interval()[0] > 0
    assert curve.lacking() is None


def test_a_curve_by_hand():
    """Four decisions, each arm with probability 1/2; the mean reward is 1/2, so terms are ±2 × ±1/2."""
    treated, control = np.array([2.0, 2.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0, 2.0])
    curve = UpliftCurve.of(
        np.array([4.0, 3.0, 2.0, 1.0]), treated, control, np.array([1.0, 0.0, 0.0, 1.0]), np.arange(4)
    )
    assert [curve.gain(share).value for share in (0.25, 0.5, 0.75, 1.0)] == [0.25, 0.0, 0.25, 0.0]
    assert curve.gain(0.375).value == 0.125  # half of the second
    assert curve.uplift(0.25).value == 1.0
    assert curve.qini().value == pytest.approx((0.125 + 0.125 + 0.125 + 0.125) / 4)


def test_shuffled_treatment_gives_a_qini_of_about_nothing():
    predicted, treated, control, reward, user = trial()
    dealt = np.random.default_rng(1).permutation(len(user))
    curve = UpliftCurve.of(predicted, treated[dealt], control[dealt], reward, user)
    assert covers(curve.qini(), 0.0)
    assert covers(curve.gain(1.0), 0.0)


def test_a_ranking_by_luck_gains_as_much_as_random_order():
    _, treated, control, reward, user = trial()
    curve = UpliftCurve.of(np.random.default_rng(2).random(len(user)), treated, control, reward, user)
    assert covers(curve.qini(), 0.0)
    assert covers(curve.beyond_random(), 0.0)


def test_equal_predictions_are_in_random_order():
    """Whatever order the rows have: the curve is the straight line."""
    _, treated, control, reward, user = trial(2000)
    curve = UpliftCurve.of(np.full(2000, 0.1), treated, control, reward, user)
    assert curve.qini().value == pytest.approx(0.0, abs=1e-15)
    assert curve.gain(0.3).value == pytest.approx(0.3 * curve.gain(1.0).value)
    assert "same everywhere" in curve.lacking()


def test_intervals_hold_in_nineteen_logs_of_twenty():
    held = np.zeros(3)
    for seed in range(300):
        curve = UpliftCurve.of(*trial(1500, seed=seed))
        held += [covers(curve.qini(), 1 / 30), covers(curve.uplift(0.3), 0.24), covers(curve.gain(0.5), 0.1)]
    assert (held / 300 >= 0.92).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
@settings(max_examples=25, deadline=None)
def test_curves_add_up_over_the_same_edges(seed, cut):
    predicted, treated, control, reward, _ = trial(300, seed=seed)
    user, edges = np.arange(300) % 70, gain_edges(predicted)
    arrays = (predicted, treated, control, reward, user)
    whole = UpliftCurve.of(*arrays)
    head, tail = (UpliftCurve.of(*(one[part] for one in arrays), edges) for part in (slice(0, cut), slice(cut, 300)))
    merged = head + tail
    assert np.array_equal(merged.keys, whole.keys)
    assert merged.arms == pytest.approx(whole.arms)
    for figure in (UpliftCurve.qini, UpliftCurve.uplift, UpliftCurve.beyond_random):
        assert figure(merged).value == pytest.approx(figure(whole).value, abs=1e-12)
        assert figure(merged).interval() == pytest.approx(figure(whole).interval(), abs=1e-12)
    with pytest.raises(ValueError, match="same edges"):
        whole + UpliftCurve.of(*arrays, np.array([0.0, 1.0]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p, t, c, r, u: (p, t * 0, c, r, u), "treatment's effective sample size is 0"),
        (lambda p, t, c, r, u: (p, t, c * 0, r, u), "control's effective sample size is 0"),
        (lambda p, t, c, r, u: (p, t, c, r * 0, u), "0 matched positives"),
        (lambda p, t, c, r, u: (p, np.where(u == 0, 300.0, t), c, r, u), "largest weight is 300"),
    ],
)
def test_too_little_support_says_why(change, reason):
    assert reason in UpliftCurve.of(*change(*trial())).lacking()


def test_those_who_gain_are_ranked_first(trial, make_catalog):
    """Half of all gain 0.2 by b rather than a, the other half as much by a: against b, each of a's friends gains."""
    found = {one["treatment"]: one for one in records_of(trial(n=12_000), make_catalog())}
    assert set(found) == {LEARNER, "a", "b"}
    assert found[LEARNER]["control"] == "best_single_offer"
    assert found[LEARNER]["qini"]["low"] > 0
    assert found[LEARNER]["uplift_top"]["value"] == pytest.approx(0.2, abs=0.06)
    shuffled = found[LEARNER]["shuffled"]
    assert shuffled["low"] < 0 < shuffled["high"]


def test_against_nothing_where_nothing_was_logged(trial, make_catalog):
    found = {one["treatment"]: one for one in records_of(trial(n=12_000, arms=("a", "b", "nothing")), make_catalog())}
    assert {one["control"] for one in found.values()} == {"nothing"}
    assert set(found) == {LEARNER, "a", "b"}
    assert found["a"]["uplift_random"]["low"] < 0.25 < found["a"]["uplift_random"]["high"]  # 0.3 - 0.05
    assert found["a"]["qini"]["low"] > 0


def test_a_constant_learner_has_no_order_to_judge(trial, make_catalog):
    records = records_of(trial(n=12_000, arms=("a", "b", "nothing")), make_catalog(), "constant")
    assert len(records) == 3
    assert all("no order to judge" in one["note"] and "qini" not in one for one in records)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([1, 2, 500]),
    st.sampled_from([1, 2, 7, 10_000]),
)
@settings(max_examples=40, deadline=None)
def test_intervals_have_width_and_what_lacks_support_says_so(seed, rate, users, levels):
    rng = np.random.default_rng(seed)
    n = 3000
    predicted = rng.integers(0, levels, n) / levels
    treated = rng.random(n) < 0.5
    reward = (rng.random(n) < rate).astype(float)
    curve = UpliftCurve.of(predicted, treated * 2.0, ~treated * 2.0, reward, np.arange(n) % users)
    if curve.lacking() is None and users > 1:
        for found in (curve.qini(), curve.uplift(), curve.beyond_random(), curve.gain(0.05)):
            low, high = found.interval()
            assert low < found.value < high
            assert all(map(math.isfinite, (low, high)))
    elif users > 1:
        assert levels == 1 or rate == 0.0
