from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import DAY
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from evaluation.labels.labels import RETIRED, label
from stores.tables import Tables


def test_a_conversion_counts_once_and_only_inside_its_window(make_catalog, make_tables):
    tables = make_tables(
        [(1, "a", 0.5), (2, "a", 0.5), (3, "b", 0.5), (4, "b", 0.5)],
        [(0, "convert", None, 1), (0, "convert", None, 2), (1, "convert", None, 15), (2, "click", None, 1),
         (3, "convert", None, -1)],
    )  # fmt: skip
    logged = label(tables, make_catalog(), "m")
    assert logged.conversion.tolist() == [1, 0, 0, 0]
    assert logged.primary == "convert"
    assert logged.outcomes["click"].tolist() == [0, 0, 1, 0]


def test_types_with_values_are_summed_and_others_are_yes_or_no(make_catalog, make_tables):
    tables = make_tables(
        [(1, "a", 0.5), (2, "b", 0.5)],
        [(0, "convert", None, 1), (0, "spend", 5.0, 1), (0, "spend", 2.5, 2), (1, "visit", None, 1),
         (1, "visit", None, 2), (1, "impression", None, 0)],
    )  # fmt: skip
    outcomes = label(tables, make_catalog(), "m").outcomes
    assert list(outcomes) == ["convert", "spend", "visit"]
    assert outcomes["spend"].tolist() == [7.5, 0.0]
    assert outcomes["visit"].tolist() == [0.0, 1.0]


def test_an_event_delivered_twice_counts_once(make_catalog, make_tables):
    tables = make_tables([(1, "a", 1.0)], [(0, "convert", None, 1), (0, "spend", 5.0, 1)])
    twice = Tables(tables.facts, tables.decisions, pd.concat([tables.outcomes] * 2, ignore_index=True), tables.dataset)
    assert label(twice, make_catalog(), "m").outcomes["spend"].tolist() == [5.0]


def test_net_value_appears_where_offers_differ_in_it(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "b", 0.5), (3, NOTHING, 0.5)], [(i, "convert", None, 1) for i in range(3)])
    assert "net_value" not in label(tables, make_catalog(), "m").outcomes
    logged = label(tables, make_catalog({"a": 2.0, "b": 5.0}), "m")
    assert logged.outcomes["net_value"].tolist() == [2.0, 5.0, 3.5]  # NOTHING: the mean of the offers'
    assert logged.reward.tolist() == [2.0, 5.0, 3.5]


def test_only_matured_decisions_are_kept(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "a", 0.5)], [(0, "convert", None, 1)])
    tables.decisions.loc[1, "at"] += pd.Timedelta(days=20)  # its window ends after `as_of`
    logged = label(tables, make_catalog(), "m")
    assert (logged.n, logged.immature) == (1, 1)


def test_without_as_of_the_latest_entry_tells_what_is_known(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "a", 0.5)], [(0, "convert", None, 1)])
    tables.decisions.loc[1, "at"] += pd.Timedelta(days=14)
    bare = Tables(tables.facts, tables.decisions, tables.outcomes, {})
    assert label(bare, make_catalog(), "m").n == 1


def test_a_finished_trial_of_one_day_is_complete_and_a_fresh_one_is_not(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "b", 0.5)], [(0, "convert", None, 1)])
    bare = Tables(tables.facts, tables.decisions, tables.outcomes, {})
    began = tables.decisions["at"].iloc[0].timestamp()
    assert label(bare, make_catalog(), "m", now=began + 15 * DAY).n == 2
    with pytest.raises(UserError, match="No decision has matured"):
        label(bare, make_catalog(), "m", now=began + 13 * DAY)


def test_eligible_lists_are_read_and_hold_what_was_shown(make_catalog, make_tables):
    catalog = make_catalog({"a": 1.0, "b": 1.0, "c": 1.0})
    tables = make_tables([(1, "a", 1.0, ["a"]), (2, "b", 0.5, ["c", "b"]), (3, "a", 1.0, [])])
    logged = label(tables, catalog, "m")
    assert logged.arms == ("a", "b", "c")
    assert logged.eligible.tolist() == [[True, False, False], [False, True, True], [True, False, False]]


def test_without_lists_whatever_was_logged_on_the_surface_is_eligible(make_catalog, make_tables):
    logged = label(make_tables([(1, "a", 0.5), (2, NOTHING, 0.5)]), make_catalog(), "m")
    assert logged.arms == ("a", NOTHING)
    assert logged.eligible.all()
    assert logged.nothing == 1


def test_what_the_catalog_lacks_is_listed(make_catalog, make_tables):
    with pytest.raises(UserError, match=r"No decision shows an offer of the model m \(a, b\); they show zebra"):
        label(make_tables([(1, "zebra", 0.5)]), make_catalog(), "m")
    with pytest.raises(UserError, match="1 features of the catalog: height"):
        label(make_tables([(1, "a", 0.5)]), make_catalog(features=("taste", "height")), "m")
    tables = make_tables([(1, "a", 0.5)])
    tables.decisions["surface"] = "elsewhere"
    with pytest.raises(UserError, match="surfaces that the catalog lacks: elsewhere"):
        label(tables, make_catalog(), "m")
    with pytest.raises(UserError, match="No decision shows an offer of the model other"):
        label(make_tables([(1, "a", 0.5)]), make_catalog(), "other")


def test_facts_that_hold_a_feature_as_something_else_are_refused(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "b", 0.5)])
    tables.facts["taste"] = pd.array(["yes", "no"], dtype="string")
    with pytest.raises(UserError, match="taste is bool, and the facts hold it as string"):
        label(tables, make_catalog(), "m")
    tables.facts["taste"] = pd.array([None, None], dtype="string")  # nothing known is nothing wrong
    assert label(tables, make_catalog(), "m").facts["taste"].isna().all()


def test_an_offer_that_left_the_catalog_stays_what_was_shown_and_can_be_chosen_no_more(make_catalog, make_tables):
    rows = [(1, "a", 0.25, ["a", "b", "zebra"]), (2, "zebra", 0.5, ["a", "zebra"]), (3, "zebra", 1.0, ["zebra"])]
    tables = make_tables(rows, [(1, "convert", None, 1), (0, "convert", None, 1)])
    logged = label(tables, make_catalog({"a": 2.0, "b": 4.0}), "m")
    assert logged.arms == ("a", "b", "zebra")
    assert logged.groups == ("plans", "plans", RETIRED)
    assert logged.retired.tolist() == [False, False, True]
    assert logged.action.tolist() == [0, 2]
    assert logged.probability.tolist() == [0.25, 0.5]
    assert logged.eligible.tolist() == [[True, True, False], [True, False, False]]
    assert logged.conversion.tolist() == [1, 1]
    assert logged.without_choice == 1  # where the zebra was all there was, no policy of today has a choice


def test_without_lists_what_left_the_catalog_can_be_chosen_no_more_either(make_catalog, make_tables):
    logged = label(make_tables([(1, "a", 0.5), (2, "zebra", 0.5)]), make_catalog(), "m")
    assert logged.eligible.tolist() == [[True, False], [True, False]]


def test_every_decision_of_a_surface_waits_for_its_longest_window(make_catalog, make_tables):
    """Else the latest days would hold only what matures fast, and probabilities that no longer hold among them."""
    catalog = make_catalog()
    groups = {"plans": catalog.groups["plans"], "quick": replace(catalog.groups["plans"], name="quick", within=2 * DAY)}
    offers = {"a": catalog.offers["a"], "b": replace(catalog.offers["b"], group="quick")}
    tables = make_tables([(1, "a", 0.5), (2, "b", 0.5), (3, "a", 0.5), (4, "b", 0.5)], [(1, "convert", None, 3)])
    tables.decisions.loc[2:, "at"] += pd.Timedelta(days=20)  # `as_of` is 31 days after the first
    logged = label(tables, replace(catalog, groups=groups, offers=offers), "m")
    assert (logged.n, logged.immature) == (2, 2)
    assert logged.conversion.tolist() == [0, 0]  # three days are too late for the quick one
    assert (logged.closed - logged.at).tolist() == [14 * DAY, 14 * DAY]


def test_facts_by_user_and_moment_are_taken_as_known_then_and_not_when_stale(make_catalog, make_tables):
    tables = make_tables([(1, "a", 0.5), (2, "a", 0.5), (3, "a", 0.5)])
    at = tables.decisions["at"].iloc[0]
    ages = pd.to_timedelta([1, 3, -1], unit="D")
    facts = pd.DataFrame(
        {
            "user_id": pd.array(["1", "2", "3"], dtype="string"),
            "as_of": at - ages,
            "taste": pd.array([True, True, True], dtype="boolean"),
        }
    )
    catalog = make_catalog()
    spec = replace(catalog.features["taste"], max_age=2 * DAY)
    by_moment = Tables(facts, tables.decisions, tables.outcomes, tables.dataset)
    found = label(by_moment, replace(catalog, features={"taste": spec}), "m").facts["taste"]
    assert found.fillna(False).tolist() == [True, False, False]  # known; too old; only known later


def test_users_are_codes_that_repeat_with_their_user(make_catalog, make_tables):
    logged = label(make_tables([(7, "a", 0.5), (8, "b", 0.5), (7, "b", 0.5)]), make_catalog(), "m")
    assert logged.user[0] == logged.user[2] != logged.user[1]
    assert logged.user.dtype == np.int64
