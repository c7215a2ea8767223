from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import evaluation.simulator.simulation as simulation
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.simulator.tables import simulate
from features.compute import compute
from features.definitions import FEATURES, defined
from features.schema import Schema
from features.snapshots import build_snapshot
from stores.catalog_files import read_catalog_files
from stores.home import Home
from stores.tables import Tables

SAMPLE = Path(simulation.__file__).parents[2] / "catalog"
UNTIL = date(2026, 11, 22)
END = pd.Timestamp(UNTIL, tz="UTC")
DAYS = 10


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def result(home):
    return simulate(home, SAMPLE, users=900, days=DAYS, seed=3, until=UNTIL)


def test_what_is_written_is_what_is_returned(result, home):
    tables = Tables.read(home.data)
    pd.testing.assert_frame_equal(tables.decisions, result.tables.decisions)
    pd.testing.assert_frame_equal(tables.outcomes, result.tables.outcomes)
    pd.testing.assert_frame_equal(tables.facts, result.tables.facts)
    assert tables.schema == Schema.of(load_catalog(read_catalog_files(SAMPLE)).features)
    assert (tables.dataset["source"], tables.dataset["seed"], tables.dataset["until"][:10]) == (
        "simulator",
        3,
        "2026-11-22",
    )


def test_everything_happens_before_the_end_and_every_user_decides_at_most_twice_a_day(result, home):
    decisions = result.tables.decisions
    events = pd.read_parquet(home.data / "events.parquet", columns=["at"])
    for moments in (decisions["at"], result.tables.outcomes["at"], events["at"]):
        assert moments.max() < END
    assert decisions["at"].min() >= END - pd.Timedelta(days=DAYS)
    assert decisions.groupby(["user_id", decisions["at"].dt.date]).size().max() <= 2


def test_offers_are_drawn_evenly_over_what_the_rules_left(result):
    decisions = result.tables.decisions
    even = 1.0 / decisions["eligible"].map(len)
    assert (decisions["probability"] - even).abs().max() < 2e-5
    expected = decisions.assign(even=even).explode("eligible").groupby("eligible")["even"].sum()
    shown = decisions["offer"].value_counts()
    for offer, mean in expected.items():
        assert abs(shown.get(offer, 0) - mean) < 5 * np.sqrt(mean) + 1, offer


def test_the_logged_facts_are_the_features_as_of_the_start_of_the_day(result, home):
    tables = result.tables
    sample = tables.decisions.iloc[:: max(len(tables.decisions) // 150, 1)]
    observations = sample[["decision_id", "user_id"]].assign(as_of=sample["at"].dt.floor("D"))
    users, events = (pd.read_parquet(home.data / f"{name}.parquet") for name in ("users", "events"))
    declared = defined(tables.schema.names)
    again = compute(users, events, observations, declared).drop(columns=["user_id", "as_of"])
    logged = sample[["decision_id"]].merge(tables.facts, on="decision_id")
    pd.testing.assert_frame_equal(again, logged, check_dtype=False)


def test_the_truth_covers_just_the_offers_that_were_eligible(result):
    truth = result.truth.set_index("decision_id")
    for row in result.tables.decisions.head(200).itertuples():
        known = set(truth.columns[truth.loc[row.decision_id].notna()])
        assert known == set(row.eligible) - {"nothing"}
    assert np.nanmin(truth.to_numpy()) >= 0.0
    assert np.nanmax(truth.to_numpy()) < 1.0


def test_conversions_happen_as_often_as_the_truth_says(result):
    decisions = result.tables.decisions
    old = decisions[(decisions["at"] < END - pd.Timedelta(days=6)) & (decisions["offer"] != "nothing")]
    truth = result.truth.set_index("decision_id")
    p = np.array([truth.at[row.decision_id, row.offer] for row in old.itertuples()])
    converted = result.tables.outcomes.query("type == 'convert'")["decision_id"]
    assert abs(old["decision_id"].isin(converted).sum() - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum())


def test_outcomes_are_conversions_and_clicks_and_nothing_never_converts(result):
    tables = result.tables
    assert set(tables.outcomes["type"]) == {"convert", "click"}
    nothing = tables.decisions.loc[tables.decisions["offer"] == "nothing", "decision_id"]
    assert not tables.outcomes["decision_id"].isin(nothing).any()


def test_an_upgrade_changes_the_plan_that_features_see(result, home):
    tables = result.tables
    monthly = tables.decisions[tables.decisions["offer"].isin(["premium_monthly", "premium_annual", "premium_holiday"])]
    done = monthly.merge(tables.outcomes.query("type == 'convert'"), on="decision_id")
    snapshot = build_snapshot(home.data, home.snapshots)
    assert snapshot.as_of == END.timestamp()
    tiers = snapshot.frame().set_index("user_id")["tier"]
    assert len(done)
    assert (tiers[done["user_id"]] == "premium").all()


def test_personal_choice_is_worth_clearly_more_than_the_best_single_offer(result):
    values = result.values
    assert values["best_single_offer"] > 1.2 * values["random"]
    assert values["optimal"] > 1.3 * values["best_single_offer"]
    assert 0.02 < result.figures()["conversion_rate"] < 0.07


def test_the_catalog_folder_is_copied(result, home):
    assert load_catalog(read_catalog_files(home.catalog)).hash == load_catalog(read_catalog_files(SAMPLE)).hash


def test_the_same_arguments_give_the_same_tables_in_any_home(tmp_path):
    ticks = []
    runs = [
        simulate(
            Home(tmp_path / name), SAMPLE, users=60, days=3, seed=seed, until=UNTIL, progress=lambda *x: ticks.append(x)
        )
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    for table in ("facts", "decisions", "outcomes"):
        pd.testing.assert_frame_equal(getattr(runs[0].tables, table), getattr(runs[1].tables, table))
    pd.testing.assert_frame_equal(runs[0].truth, runs[1].truth)
    assert not runs[0].tables.decisions.equals(runs[2].tables.decisions)
    assert ticks[:3] == [(1, 3), (2, 3), (3, 3)]


def test_a_catalog_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no catalog folder"):
        simulate(Home(tmp_path), tmp_path / "nowhere", users=50, days=1, seed=1, until=UNTIL)


def test_a_catalog_that_somebody_edited_is_never_overwritten(tmp_path):
    mine = tmp_path / "home" / "catalog"
    mine.mkdir(parents=True)
    (mine / "mine.yaml").write_text("currency: SEK\n")
    with pytest.raises(UserError, match="another catalog, which would be lost"):
        simulate(Home(tmp_path / "home"), SAMPLE, users=100, days=7, until=UNTIL)
    assert (mine / "mine.yaml").read_text() == "currency: SEK\n"


def test_a_catalog_of_something_else_than_listening_is_refused(tmp_path):
    catalog = tmp_path / "other"
    catalog.mkdir()
    offers = "offers: {a: {owner: pm, group: mail, surfaces: [email], creative: {key: a, locales: [en]}}}\n"
    rest = "features: {recency: {type: int}}\nsurfaces: {email: {fallback: null}}\ngroups: {mail: {}}\n"
    (catalog / "all.yaml").write_text(offers + rest)
    with pytest.raises(UserError, match="reads recency, which simulated listeners don't have"):
        simulate(Home(tmp_path / "home"), catalog, users=100, days=7, until=UNTIL)


def test_the_order_in_which_events_are_added_up_changes_no_bit_of_a_feature(result, home):
    users, events = (pd.read_parquet(home.data / f"{name}.parquet") for name in ("users", "events"))
    everybody = pd.DataFrame({"user_id": users["user_id"], "as_of": END})
    shuffled = events.sample(frac=1.0, random_state=5).reset_index(drop=True)
    found = [compute(users, rows, everybody) for rows in (events, shuffled)]
    assert len(found[0].columns) == 2 + len(FEATURES)
    pd.testing.assert_frame_equal(found[0], found[1], check_exact=True)
