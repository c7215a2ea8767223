import math

import numpy as np
import pytest

from decisioning.domain import NOTHING
from evaluation.labels.labels import label
from evaluation.values.arm_means import SMOOTHING, arm_means
from evaluation.values.crossfit import CrossFit, simplest
from evaluation.values.policy_choice import chosen
from evaluation.values.policy_values import policy_values
from evaluation.values.worth import worth
from models.encoding import Encoding
from models.learners import fit

KEYS = {"policy", "outcome", "estimator", "value", "low", "high", "diff", "diff_low", "diff_high", "n", "ess"}


def crossfit(logged, catalog, learner="logistic", **options):
    encoding = Encoding.of(
        catalog, logged.surfaces, [arm for arm in logged.arms if arm != NOTHING or logged.nothing is not None]
    )
    return CrossFit(logged, encoding, lambda sample: fit(learner, encoding, sample, {}, 0), **options)


def figures(table, policy, outcome="convert", estimator="dr"):
    return next(r for r in table.records if (r["policy"], r["outcome"], r["estimator"]) == (policy, outcome, estimator))


@pytest.fixture
def world(trial, make_catalog):
    """4,000 decisions, two offers: those with the taste convert better on b (0.4 against 0.2), the others on a."""
    return label(trial(), make_catalog(), "m"), make_catalog()


@pytest.fixture
def table(world):
    return policy_values(crossfit(*world))


def test_every_policy_outcome_and_estimator_has_a_record(table):
    assert {record["policy"] for record in table.records} == {
        "best_single_offer", "trained", "logging", "random", "only:a", "only:b",
    }  # fmt: skip
    assert all(set(record) >= KEYS for record in table.records)
    assert len(table.records) == 6 * 6


def test_what_may_only_rank_is_marked(table):
    marked = {record["estimator"] for record in table.records if record["ranking_only"]}
    assert marked == {"dm", "switch_dr", "dros"}


def test_a_gain_that_is_there_is_found(table):
    trained, best = figures(table, "trained"), figures(table, "best_single_offer")
    assert trained["low"] < 0.4 < trained["high"]
    assert best["low"] < 0.3 < best["high"]
    assert trained["diff_low"] > 0.05
    assert min(table.shrinkages) > 0


@pytest.mark.parametrize("estimator", ["dr", "snips", "ips"])
def test_known_policies_have_their_known_values(table, world, estimator):
    for policy in ("logging", "random", "only:a", "only:b"):
        record = figures(table, policy, estimator=estimator)
        assert record["low"] < 0.3 < record["high"]
    assert figures(table, "logging", estimator=estimator)["value"] == pytest.approx(world[0].conversion.mean())


def test_the_reference_is_not_compared_with_itself(table):
    best = figures(table, "best_single_offer")
    assert (best["diff"], best["diff_low"], best["diff_high"]) == (0.0, None, None)


def test_no_interval_has_no_width_and_every_figure_is_finite(table):
    for record in table.records:
        numbers = [value for value in record.values() if isinstance(value, float)]
        assert all(math.isfinite(value) for value in numbers)
        assert record["low"] < record["value"] < record["high"]
        if record["diff_low"] is not None:
            assert record["diff_low"] < record["diff"] < record["diff_high"]


def test_an_offer_that_was_never_shown_has_no_interval_and_others_keep_theirs(trial, make_catalog):
    catalog = make_catalog({"a": 1.0, "b": 1.0, "never": 1.0})
    tables = trial()
    tables.decisions["eligible"] = [["a", "b", "never"]] * len(tables.decisions)
    logged = label(tables, catalog, "m")
    encoding = Encoding.of(catalog, logged.surfaces, ["a", "b", "never"])
    table = policy_values(CrossFit(logged, encoding, lambda sample: fit("logistic", encoding, sample, {}, 0)))
    for estimator in ("dr", "dm", "snips"):
        never = figures(table, "only:never", estimator=estimator)
        assert never["note"] == never["diff_note"] == "not enough support: effective sample size 0, needs 1,000"
        assert [never[key] for key in ("low", "high", "diff_low", "diff_high", "diff_lower")] == [None] * 5
    seen = figures(table, "only:a")
    assert (seen["note"], seen["diff_note"]) == (None, None)
    assert seen["low"] < seen["high"]
    assert seen["diff_low"] < seen["diff_high"]


def test_what_the_reference_lacks_is_said_of_differences_alone(trial, make_catalog):
    """Of 1,500 decisions about half are the best single offer's: what ran has support, that offer has not."""
    table = policy_values(crossfit(label(trial(n=1500), make_catalog(), "m"), make_catalog()))
    ran, best = figures(table, "logging"), figures(table, "best_single_offer")
    assert ran["note"] is None
    assert ran["low"] < ran["high"]
    assert "(of the best single offer)" in ran["diff_note"]
    assert [ran[key] for key in ("diff_low", "diff_high", "diff_lower")] == [None] * 3
    assert "not enough support" in best["note"]
    assert best["diff_note"] is None
    found = worth(table.records, "convert")
    assert found is not None
    assert not found.is_shown


@pytest.mark.parametrize("lacking", [("trained", "note"), ("trained", "diff_note"), ("best_single_offer", "note")])
def test_worth_is_not_shown_where_either_policy_lacks_support(table, lacking):
    found = worth(table.records, "convert")
    assert found is not None
    assert found.is_shown
    policy, key = lacking
    records = [{**row, key: "not enough support"} if row["policy"] == policy else row for row in table.records]
    found = worth(records, "convert")
    assert found is not None
    assert not found.is_shown


def test_without_a_gain_the_model_stays_with_the_best_single_offer(trial, make_catalog):
    logged = label(trial(right=0.3, wrong=0.3, seed=1), make_catalog(), "m")
    for learner in ("constant", "logistic"):
        table = policy_values(crossfit(logged, make_catalog(), learner))
        trained = figures(table, "trained")
        assert trained["diff_low"] < 0 < trained["diff_high"]
        if learner == "constant":
            assert set(table.shrinkages) == {0.0}
            assert trained["diff"] == 0.0
            assert trained["diff_high"] == pytest.approx(3 / 4000)


def test_lightgbm_finds_the_gain_too(trial, make_catalog):
    logged = label(trial(n=6000, right=0.5, wrong=0.15, seed=2), make_catalog(), "m")
    assert figures(policy_values(crossfit(logged, make_catalog(), "lightgbm", folds=3)), "trained")["diff_low"] > 0.05


def test_the_same_seed_gives_the_same_figures(world):
    first, again = (policy_values(crossfit(*world, seed=4)).records for _ in range(2))
    assert first == again
    assert policy_values(crossfit(*world, seed=5)).records != first


def test_value_net_of_cost_decides_and_not_the_rate(trial, make_catalog):
    """Both convert alike, and b is worth nine times as much: everybody gets b, whatever their taste."""
    catalog = make_catalog({"a": 1.0, "b": 9.0})
    table = policy_values(crossfit(label(trial(), catalog, "m"), catalog))
    best = figures(table, "best_single_offer", "net_value")
    assert best["value"] == pytest.approx(figures(table, "only:b", "net_value")["value"])
    assert best["low"] < 0.3 * 9 < best["high"]


def test_the_folds_follow_users(trial, make_catalog):
    logged = label(trial(users=300), make_catalog(), "m")
    fits = crossfit(logged, make_catalog())
    folds_of = {user: set(fits.fold[logged.user == user]) for user in range(300)}
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert set(fits.fold) == set(range(5))


def test_no_decision_is_judged_by_a_model_that_saw_its_user(world):
    logged, catalog = world
    seen = []
    encoding = Encoding.of(catalog, logged.surfaces, logged.arms)

    def spy(sample):
        seen.append(len(sample.outcome))
        return fit("constant", encoding, sample, {}, 0)

    fits = CrossFit(logged, encoding, spy)
    policy_values(fits)
    fits.final()
    assert len(seen) == fits.fits == 16
    assert sorted(set(seen)) == [2400, 3200, 4000]  # pairs of folds left out, single folds, and nobody


@pytest.mark.parametrize(("errors", "winner"), [(0.5, 0), (3.0, 1)])
def test_the_simplest_policy_within_one_standard_error_of_the_best_wins(errors, winner):
    """The last of three is best; the second is close to it; the first is `errors` standard errors behind."""
    n = 10_000
    noise = np.random.default_rng(0).normal(size=n)
    noise = (noise - noise.mean()) / noise.std()
    first = np.zeros(n)
    best = first + noise + errors / np.sqrt(n)
    assert simplest([first, best - 1e-9, best], np.arange(n), scale=1e-3) == winner


def test_a_gain_on_hardly_any_decision_is_no_gain():
    first = np.zeros(10_000)
    better = first.copy()
    better[:2] = 1.0
    assert simplest([first, better], np.arange(10_000), scale=1.0) == 0


def test_a_user_seen_many_times_counts_once():
    """A gain on a hundred decisions and a loss on fifty say little where they are two users'."""
    first, user = np.zeros(2000), np.arange(2000)
    better = first.copy()
    better[:100], better[100:150] = 1.0, -1.0
    assert simplest([first, better], user, scale=1e-3) == 1
    user[:100], user[100:150] = 0, 100
    assert simplest([first, better], user, scale=1e-3) == 0


def test_nothing_wins_over_offers_that_are_worth_less(trial, make_catalog):
    """An offer whose conversions cost more than they bring is not shown where nothing may be."""
    catalog = make_catalog({"a": -1.0, "b": -2.0})
    logged = label(trial(arms=("a", "b", NOTHING)), catalog, "m")
    p = np.tile([0.9, 0.9, 0.1], (logged.n, 1))
    assert set(chosen(logged, np.arange(logged.n), p)) == {logged.arms.index(NOTHING)}


def test_a_higher_priority_class_goes_first(trial, make_catalog):
    logged = label(trial(n=50), make_catalog(priorities={"a": 1}), "m")
    assert set(chosen(logged, np.arange(50), np.tile([0.1, 0.9], (50, 1)))) == {0}


def test_only_eligible_arms_are_chosen(make_tables, make_catalog):
    logged = label(make_tables([(1, "a", 1.0, ["a"]), (2, "a", 0.5, ["a", "b"])]), make_catalog(), "m")
    assert chosen(logged, np.arange(2), np.tile([0.1, 0.9], (2, 1))).tolist() == [0, 1]


def test_arm_means_undo_the_logging_policys_preference(make_tables, make_catalog):
    """a was shown to eager users three times as often as to others; weighting by 1/p takes that back."""
    n = 20_000
    rng = np.random.default_rng(0)
    eager = rng.random(n) < 0.5
    p_a = np.where(eager, 0.75, 0.25)
    shown_a = rng.random(n) < p_a
    converted = np.flatnonzero(rng.random(n) < np.where(eager, 0.4, 0.2))
    tables = make_tables(
        [(i, "a" if shown_a[i] else "b", p_a[i] if shown_a[i] else 1 - p_a[i]) for i in range(n)],
        [(int(i), "convert", None, 1) for i in converted],
    )
    logged = label(tables, make_catalog(), "m")
    means = arm_means(logged, np.arange(n))
    assert means.offers["a"] == pytest.approx(0.3, abs=0.015)
    assert logged.conversion[logged.action == 0].mean() > 0.33


def test_an_arm_with_little_data_leans_on_its_group(make_tables, make_catalog):
    catalog = make_catalog({"a": 1.0, "b": 1.0, "c": 1.0})
    rows = [(i, "a", 0.5) for i in range(1000)] + [(5000, "b", 0.5), (5001, "c", 0.5)]
    logged = label(
        make_tables(rows, [(i, "convert", None, 1) for i in range(100)] + [(1000, "convert", None, 1)]), catalog, "m"
    )
    means = arm_means(logged, np.arange(len(rows)))
    group = means.groups["plans"]
    assert means.offers["b"] == pytest.approx((1 + SMOOTHING * group) / (1 + SMOOTHING))
    assert means.offers["c"] == pytest.approx(SMOOTHING * group / (1 + SMOOTHING))
