from pathlib import Path

import duckdb
import pytest

from decisioning.catalog import FeatureSpec
from decisioning.catalog import FeatureType as T
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from features.catalogue import FROM_CONTEXT, FROM_IMPORT, definition, entries, entry, formula
from features.catalogue_page import BEGIN, END, PAGE, with_catalogue
from features.definitions import FEATURES, defined
from features.uses import uses

SAMPLE = Path(__file__).parents[2] / "catalog"
FILES = {file.relative_to(SAMPLE).as_posix(): file.read_bytes() for file in SAMPLE.rglob("*.yaml")}


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(FILES)


def test_the_page_in_docs_is_up_to_date():
    page = PAGE.read_text()
    assert page == with_catalogue(page), "run: python -m features.catalogue_page"
    for feature in FEATURES:
        assert f"| `{feature.name}` |" in page


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(UserError, match="has lost the lines"):
        with_catalogue("# Features\n")
    assert with_catalogue(f"a {BEGIN} old {END} b").startswith(f"a {BEGIN}\n")
    assert with_catalogue(f"a {BEGIN} old {END} b").endswith(f"{END} b")


def test_every_feature_has_all_that_people_ask_of_it():
    for one in entries({}):
        told = one.to_json()
        assert told["owner"], one.name
        assert told["meaning"], one.name
        assert told["max_age_seconds"] >= 36 * 3600, one.name
        assert told["unit"] or one.spec.type is not T.INT, one.name


def test_what_only_a_catalog_declares_is_listed_with_where_it_comes_from(catalog):
    mine = {"recency": FeatureSpec("recency", T.INT), "tier": FeatureSpec("tier", T.ENUM, ("gold", "silver"))}
    found = {one.name: one for one in entries(mine)}
    assert found["recency"].source == found["tier"].source == FROM_IMPORT
    assert not found["tier"].meaning  # another thing of the same name
    assert len(found) == len(FEATURES) + 1
    sample = {one.name: one for one in entries(catalog.features)}
    assert sample["device"].source == FROM_CONTEXT
    assert (sample["tier"].used, sample["minutes_trend"].used) == (True, False)


def test_a_catalogs_own_maximum_age_is_the_one_that_is_told():
    mine = {"sessions_7d": FeatureSpec("sessions_7d", T.INT, default=0, max_age=60.0)}
    assert entry(mine, "sessions_7d").to_json()["max_age_seconds"] == 60.0


@pytest.mark.parametrize(("wrong", "right"), [("sesions_7d", "sessions_7d"), ("devise", "device")])
def test_a_name_that_is_nearly_right_is_met_with_the_right_one(catalog, wrong, right):
    with pytest.raises(UserError, match=f'no feature "{wrong}". Did you mean "{right}"'):
        entry(catalog.features, wrong)


def test_the_definition_is_told_as_it_is_written():
    assert definition(*defined(["sessions_28d"])) == "p.count(seen, 'session', 28)"
    assert definition(*defined(["offers_clicked_28d"])) == "p.count(seen, 'click', 28)"
    assert definition(*defined(["market"])) == "user.market"
    assert len({definition(feature) for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_formula_that_is_told_runs_as_it_stands(feature):
    """On one event of each type that it names, so that it also gives what it should have the type of."""
    table = (
        "SELECT '2026-11-20 00:00:00.5Z'::TIMESTAMPTZ AS at, type, 'premium' AS item, 2.5::DOUBLE AS amount, "
        "23::BIGINT AS hour, 86400::BIGINT AS age, '2026-11-22 00:00:00Z'::TIMESTAMPTZ AS as_of, "
        "'1990-01-01 00:00:00Z'::TIMESTAMPTZ AS born_at, '2026-01-01 00:00:00Z'::TIMESTAMPTZ AS signup_at, "
        "'SE' AS market FROM (VALUES ('session'), ('play')) AS t(type)"
    )
    rows = duckdb.connect().sql(f"SELECT {formula(feature)} AS value FROM ({table})").fetchall()
    assert len(rows) == (2 if feature.of_user else 1)


def test_what_reads_a_feature_is_found_wherever_a_condition_may_stand(catalog):
    kinds = {use.kind for name in catalog.features for use in uses(catalog, name)}
    assert kinds == {"offer", "guard", "invariant", "context weight", "experiment", "audience", "quiet hours"}
    [trial] = [use for use in uses(catalog, "skips_limited_7d") if use.name == "skip_pass_trial"]
    assert (trial.kind, trial.says) == ("offer", "skips_limited_7d is at least 3")
    assert (SAMPLE / trial.place.file).read_text().splitlines()[trial.place.line - 1].startswith("  skip_pass_trial:")


def test_a_feature_that_no_rule_names_has_no_reader(catalog):
    assert uses(catalog, "minutes_trend") == ()
