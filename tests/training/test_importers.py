import os
from pathlib import Path

import pandas as pd
import pytest

import training.importers.tables as importer
from decisioning.catalog import FeatureType
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from features.snapshots import build_snapshot
from stores.catalog_files import read_catalog_files
from stores.home import Home
from stores.tables import Tables
from training.importers.hillstrom import import_hillstrom
from training.importers.tables import import_tables

FACTS = """decision_id,recency,spend,club,loyal,tags_seen
d1,3,10.5,gold,true,2026-10-01T00:00:00Z
d2,,20,silver,false,2026-10-02T12:00:00+02:00
007,5,7,,TRUE,
"""
DECISIONS = """decision_id,user_id,at,surface,offer,probability,eligible
d1,u1,2026-11-01T10:00:00Z,home,loan,0.5,loan|card
d2,u2,2026-11-01T12:00:00+01:00,home,card,0.25,"[""loan"", ""card""]"
007,u1,2026-11-02T10:00:00.5Z,mail,nothing,1,"loan,nothing"
"""
OUTCOMES = """event_id,decision_id,type,value,at
e1,d1,click,,2026-11-01T10:01:00Z
e2,d1,convert,3.5,2026-11-03T10:01:00Z
"""


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def bring(tmp_path, home):
    """Import the three files, each as given or changed."""

    def run(facts=FACTS, decisions=DECISIONS, outcomes=OUTCOMES, offers=None, **options):
        for name, text in (("facts", facts), ("decisions", decisions), ("outcomes", outcomes), ("offers", offers)):
            if text is not None:
                (tmp_path / f"{name}.csv").write_text(text)
        files = {name: tmp_path / f"{name}.csv" for name in ("facts", "decisions", "outcomes")}
        return import_tables(home, **files, offers=tmp_path / "offers.csv" if offers else None, **options)

    return run


def catalog_of(home):
    return load_catalog(read_catalog_files(home.catalog))


def test_csv_files_become_typed_tables(bring, home):
    told = bring()
    tables = Tables.read(home.data)
    assert {spec.name: spec.type for spec in tables.schema.specs} == {
        "recency": FeatureType.INT,
        "spend": FeatureType.FLOAT,
        "club": FeatureType.ENUM,
        "loyal": FeatureType.BOOL,
        "tags_seen": FeatureType.TIME,
    }
    assert tables.facts["decision_id"].tolist() == ["d1", "d2", "007"]
    assert tables.facts["recency"].tolist() == [3, pd.NA, 5]
    assert tables.facts["loyal"].tolist() == [True, False, True]
    assert tables.decisions["at"][1] == pd.Timestamp("2026-11-01T11:00Z")
    assert tables.decisions["eligible"].tolist() == [["loan", "card"], ["loan", "card"], ["loan", "nothing"]]
    assert tables.outcomes["value"].tolist()[1] == 3.5
    assert told["decisions"] == 3
    assert told["features"]["club"] == "enum"


def test_a_starter_catalog_holds_the_surfaces_offers_and_features_of_the_logs(bring, home):
    bring()
    catalog = catalog_of(home)
    assert set(catalog.offers) == {"loan", "card"}
    assert catalog.offers["loan"].surfaces == ("home", "mail")
    assert catalog.offers["card"].surfaces == ("home",)
    assert (catalog.surfaces["mail"].allow_nothing, catalog.surfaces["home"].allow_nothing) == (True, False)
    assert catalog.features["club"].values == ("gold", "silver")
    assert catalog.models == ("propensity",)
    assert catalog.group("offers").converts_on == "convert"
    assert build_snapshot(home.data, home.snapshots).rows == 2


def test_a_file_of_offers_gives_groups_values_costs_and_attributes(bring, home):
    bring(offers="offer,group,value,cost,rate,colour\nloan,credit,40,1.5,0.07,red\ncard,cards,,,,\nother,x,1,0,,\n")
    loan, card = catalog_of(home).offers["loan"], catalog_of(home).offers["card"]
    assert (loan.group, loan.score.value, loan.score.cost) == ("credit", 40.0, 1.5)
    assert loan.attributes == {"rate": 0.07, "colour": "red"}
    assert (card.group, card.score.value, card.attributes) == ("cards", 1.0, {})
    assert set(catalog_of(home).groups) == {"credit", "cards"}


def test_parquet_files_keep_their_types(tmp_path, home):
    facts = pd.DataFrame({"decision_id": [1, 2], "n": [1, 2], "x": [0.5, None], "on": [True, False], "s": [["a"], []]})
    decisions = pd.DataFrame(
        {
            "decision_id": [1, 2],
            "user_id": [10, 11],
            "at": pd.to_datetime(["2026-11-01", "2026-11-02"]).tz_localize("Europe/Oslo"),
            "surface": "web",
            "offer": ["a", "b"],
            "probability": 0.5,
            "eligible": [["a", "b"], ["a", "b"]],
        }
    )
    outcomes = pd.DataFrame(
        {"event_id": ["e"], "decision_id": [1], "type": "buy", "value": [2], "at": decisions["at"][:1]}
    )
    paths = {"facts": facts, "decisions": decisions, "outcomes": outcomes}
    for name, frame in paths.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    import_tables(home, **{name: tmp_path / f"{name}.parquet" for name in paths})
    tables = Tables.read(home.data)
    assert [str(spec.type) for spec in tables.schema.specs] == ["int", "bool", "set", "float"]
    assert tables.decisions["decision_id"].tolist() == ["1", "2"]
    assert tables.decisions["at"][0] == pd.Timestamp("2026-10-31T23:00Z")
    assert catalog_of(home).group("offers").converts_on == "buy"


def test_facts_by_user_and_moment_are_taken_too(bring, home):
    bring(facts="user_id,as_of,recency\nu1,2026-10-30T00:00Z,1\nu1,2026-11-02T00:00Z,2\nu2,2026-10-30T00:00Z,3\n")
    assert Tables.read(home.data).facts_of_decisions()["recency"].tolist() == [1, 3, 2]


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("decisions", "0.25", "1.25", r"decisions\.csv, row 2 \(decision_id d2\): the probability 1.25 is outside"),
        ("decisions", "0.25", "a quarter", r"decisions\.csv, row 2 .*a quarter, which is no number"),
        ("decisions", "2026-11-01T10:00:00Z", "2026-11-01 10:00", r"row 1 .*has no time zone"),
        ("decisions", "2026-11-01T10:00:00Z", "yesterday", r"row 1 .*yesterday, which is no time"),
        ("decisions", "probability,", "chance,", r"decisions\.csv has no column probability"),
        ("decisions", "007,u1", "d1,u1", r"row 3 .*earlier row"),
        ("decisions", "card,0.25", "bond,0.25", r"row 2 .*offer bond is not among"),
        ("decisions", "loan|card", "[loan", r"row 1 .*eligible is \[loan, which is no list"),
        ("outcomes", "e2,d1", "e2,d9", r"outcomes\.csv, row 2 .*its decision d9 is not in"),
        ("outcomes", "e2", "e1", r"outcomes\.csv, row 2 .*earlier row"),
        ("facts", "d2,,", "d3,,", r"facts\.csv, row 2 .*its decision d3 is not in"),
        ("facts", "d2,,", "d1,,", r"facts\.csv, row 2 .*earlier row"),
        ("facts", "decision_id", "decision", r"facts\.csv has no key"),
    ],
)
def test_a_bad_file_is_refused_with_row_and_reason_and_nothing_is_imported(bring, home, table, old, new, message):
    texts = {"facts": FACTS, "decisions": DECISIONS, "outcomes": OUTCOMES}
    assert old in texts[table]
    with pytest.raises(UserError, match=message):
        bring(**(texts | {table: texts[table].replace(old, new, 1)}))
    assert not home.path.exists()


def test_columns_that_can_not_be_features_are_left_out_with_the_reason(bring, home):
    rows = [f"d{i},u{i},2026-11-01T10:00:00Z,home,loan,0.5,loan" for i in range(60)]
    facts = [f"d{i},name {i},{i}," for i in range(60)]
    told = bring(
        facts="decision_id,name,n,void\n" + "\n".join(facts),
        decisions=DECISIONS.splitlines()[0] + "\n" + "\n".join(rows),
        outcomes=OUTCOMES.splitlines()[0] + "\n",
    )
    assert set(told["ignored"]) == {"name", "void"}
    assert "60 different values" in told["ignored"]["name"]
    assert Tables.read(home.data).schema.names == ("n",)


def test_one_bad_cell_in_a_column_of_numbers_is_refused(bring):
    rows = [f"d{i},u{i},2026-11-01T10:00:00Z,home,loan,0.5,loan" for i in range(60)]
    facts = [f"d{i},{i if i != 41 else 'lots'}" for i in range(60)]
    with pytest.raises(UserError, match=r"facts\.csv, row 42 .*n is lots, which is no number"):
        bring("decision_id,n\n" + "\n".join(facts), DECISIONS.splitlines()[0] + "\n" + "\n".join(rows))


def test_what_counts_as_a_conversion_is_asked_for_when_it_is_not_clear(bring, home):
    unclear = OUTCOMES.replace("convert", "signup")
    with pytest.raises(UserError, match="--converts-on with one of click, signup"):
        bring(outcomes=unclear)
    with pytest.raises(UserError, match="No outcome is of the type buy"):
        bring(outcomes=unclear, converts_on="buy")
    bring(outcomes=unclear, converts_on="signup")
    assert catalog_of(home).group("offers").converts_on == "signup"


def test_an_offer_that_no_catalog_can_name_is_refused_before_anything_is_written(bring, home):
    with pytest.raises(UserError, match="can't be a name"):
        bring(decisions=DECISIONS.replace("loan", "Loan for you!"))
    assert not home.path.exists()


def test_a_catalog_that_is_there_is_kept(bring, home):
    bring()
    before = read_catalog_files(home.catalog)
    edited = before["offers.yaml"].replace(b"value: 1,", b"value: 9,")
    (home.catalog / "offers.yaml").write_bytes(edited)
    assert bring()["catalog"] is False
    assert read_catalog_files(home.catalog)["offers.yaml"] == edited


def test_logs_of_offers_that_the_catalog_does_not_know_are_refused(bring, home):
    bring()
    with pytest.raises(UserError, match="knows none of the offers"):
        bring(decisions=DECISIONS.replace("loan", "pension").replace("card", "fund"))


def test_a_file_that_is_not_there_is_named(bring, tmp_path, home):
    bring()
    with pytest.raises(UserError, match=r"no file .*gone\.csv"):
        import_tables(home, facts=tmp_path / "gone.csv", decisions=tmp_path / "x", outcomes=tmp_path / "x")


def test_a_disk_that_fails_leaves_the_old_data(bring, home, monkeypatch):
    bring()

    def fail(*_args, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="no space"):
        bring(facts=FACTS.replace("d1,3", "d1,4"))
    assert Tables.read(home.data).facts["recency"].iloc[0] == 3
    assert sorted(item.name for item in home.path.iterdir()) == ["catalog", "data"]


# --- Hillstrom --------------------------------------------------------------------------------------------------------

SMALL = """recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend
10,2) $100 - $200,142.44,1,0,Surburban,0,Phone,Womens E-Mail,0,0,0
6,3) $200 - $350,329.08,1,1,Rural,1,Web,No E-Mail,1,0,0
7,2) $100 - $200,180.65,0,1,Surburban,1,Web,Mens E-Mail,1,1,29.99
"""


def hillstrom(tmp_path, text=SMALL):
    file = tmp_path / "hillstrom.csv"
    file.write_text(text)
    return file


def test_a_row_of_the_trial_becomes_a_decision_with_its_outcomes(tmp_path, home):
    import_hillstrom(home, hillstrom(tmp_path))
    tables = Tables.read(home.data)
    assert tables.decisions["offer"].tolist() == ["womens_email", "nothing", "mens_email"]
    assert tables.decisions["probability"].tolist() == [1 / 3] * 3
    assert set(tables.outcomes["event_id"]) == {"d00002-visit", "d00003-visit", "d00003-conversion", "d00003-spend"}
    assert tables.outcomes["value"].dropna().tolist() == [29.99]
    assert tables.facts["mens"].tolist() == [True, True, False]
    catalog = catalog_of(home)
    assert set(catalog.offers) == {"mens_email", "womens_email"}
    assert (catalog.group("email").converts_on, catalog.group("email").within) == ("visit", 14 * 86_400)
    assert catalog.surfaces["email"].allow_nothing


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("segment,visit", "arm,visit", "has no column segment"),
        ("No E-Mail", "Kids E-Mail", "row 2.*segment Kids E-Mail is none of Mens E-Mail"),
        ("329.08", "much", "row 2.*history is much, which is no number"),
        ("10,2)", ",2)", "row 1.*recency is missing"),
        ("142.44,1", "142.44,2", "row 1.*mens is 2"),
    ],
)
def test_another_file_than_the_trial_is_refused(tmp_path, home, old, new, message):
    with pytest.raises(UserError, match=message):
        import_hillstrom(home, hillstrom(tmp_path, SMALL.replace(old, new, 1)))
    assert not home.path.exists()


@pytest.fixture
def trial():
    """The real file, which is no part of the project."""
    beside = Path(importer.__file__).parents[2].parent / "shared" / "data" / "hillstrom.csv"
    file = Path(os.environ.get("SEGUE_HILLSTROM") or beside)
    if not file.is_file():
        pytest.skip("the Hillstrom file is not here: name it in SEGUE_HILLSTROM")
    return file


def test_the_real_trial_has_its_known_sizes_and_rates(trial, home):
    import_hillstrom(home, trial)
    tables = Tables.read(home.data)
    assert len(tables.decisions) == len(tables.facts) == 64_000
    visited = tables.decisions["decision_id"].isin(tables.outcomes.query("type == 'visit'")["decision_id"])
    rates = visited.groupby(tables.decisions["offer"]).mean()
    assert rates["mens_email"] == pytest.approx(0.1828, abs=1e-4)
    assert rates["womens_email"] == pytest.approx(0.1514, abs=1e-4)
    assert rates["nothing"] == pytest.approx(0.1062, abs=1e-4)
    assert tables.outcomes.query("type == 'conversion'").shape[0] == 578
    assert tables.outcomes["value"].sum() == pytest.approx(67_258.13)
