import json

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.crossfit import CrossFit
from models import artifact
from stores.registry import CHALLENGER, Registry
from stores.tables import Tables
from training.config import read_config
from training.evaluate import evaluate
from training.train import train

POLICIES = {"best_single_offer", "trained", "logging", "random"}


def registry(home):
    return Registry(home.mlflow_uri, home.artifacts)


def test_training_registers_a_challenger_that_decides_as_it_should(home, catalog):
    steps = []
    result = train(home, catalog, config="logistic", seed=3, progress=lambda done, total: steps.append((done, total)))
    version = registry(home).alias("passes", CHALLENGER)
    assert version.version == result.version == 1
    model = artifact.load(registry(home).files("passes", 1))
    assert model.label == "passes/1"
    crime, poetry = model.score({"likes_crime": True, "age": 40}, "front", ["crime_pass", "poetry_pass"]).effect
    assert crime > poetry + 0.05
    assert steps[0] == (0, 16)
    assert steps[-1] == (16, 16)


def test_metrics_hold_every_figure_that_is_returned(home, catalog):
    result = train(home, catalog, config="logistic")
    written = json.loads((home.path / "metrics.json").read_text())
    assert written == json.loads(json.dumps(result.to_json()))
    assert {record["policy"] for record in written["policy_values"]} >= POLICIES
    assert 0 <= written["ece"] < 0.03
    assert written["version"] == 1
    assert written["outcome"] == written["objective"] == "convert"


def test_the_registry_knows_where_a_version_comes_from(home, catalog):
    result = train(home, catalog, config="logistic", seed=9)
    tags = registry(home).version("passes", result.version).tags
    assert tags["seed"] == "9"
    assert tags["source"] == "test"
    assert tags["data_from"] == "2026-03-01T00:00:00+00:00"
    assert tags["schema_hash"] == result.metrics["schema_hash"]


def test_the_same_seed_trains_the_same_model(home, catalog):
    for _ in range(2):
        train(home, catalog, config="lightgbm", seed=5, folds=3)
    one, two = (registry(home).files("passes", number) for number in (1, 2))
    assert one["model.txt"] == two["model.txt"]
    assert artifact.stamp(one, 2)["model.json"] == two["model.json"]


def test_a_model_without_a_gain_stays_at_the_best_single_offer_and_says_so(home, catalog, make_history):
    make_history(right=0.2, wrong=0.2, seed=4).write(home.data)
    result = train(home, catalog, config="constant")
    assert result.metrics["shrinkage"] == 0.0
    assert "best single offer" in result.metrics["says"]


def test_golden_questions_are_no_persons_record(home, catalog):
    train(home, catalog, config="logistic")
    golden = artifact.load(registry(home).files("passes", 1)).golden
    assert golden[0].features == {}
    assert any(row.features.keys() == {"likes_crime", "age"} for row in golden)


def test_evaluating_a_version_on_its_own_data_gives_the_table_of_its_training_again(trained_home, catalog):
    found = evaluate(trained_home, catalog, version=1).to_json()
    assert found["learner"] == "logistic"
    evidence = json.loads(registry(trained_home).files("passes", 1)["evidence.json"])
    assert found["policy_values"] == evidence["policy_values"]
    assert found["fold_shrinkages"] == evidence["fold_shrinkages"]
    assert json.loads((trained_home.path / "metrics.json").read_text())["policy_values"] == found["policy_values"]
    registry(trained_home).set_alias("passes", CHALLENGER, 2)
    assert evaluate(trained_home, catalog).to_json()["version"] == 2  # the challenger


def test_evaluating_never_scores_with_the_registered_fit(trained_home, catalog, monkeypatch):
    seen = []
    original = CrossFit.predictor
    monkeypatch.setattr(CrossFit, "predictor", lambda self, out: (seen.append(out), original(self, out))[1])
    evaluate(trained_home, catalog, version=1)
    assert seen
    assert all(len(left_out) in (1, 2) for left_out in seen)


@pytest.mark.parametrize(("version", "message"), [(7, r"no version 7 .*it has: 1, 2"), ("best", "called 'best'")])
def test_evaluating_a_version_that_does_not_exist_says_which_do(trained_home, catalog, version, message):
    with pytest.raises(UserError, match=message):
        evaluate(trained_home, catalog, version=version)


def test_without_tables_it_says_how_to_get_some(home, catalog, tmp_path):
    with pytest.raises(UserError, match="segue data"):
        train(type(home)(tmp_path / "empty"), catalog)


def test_without_conversions_there_is_nothing_to_learn(home, catalog, make_history):
    tables = make_history()
    Tables(tables.facts, tables.decisions, tables.outcomes.iloc[:0], tables.dataset).write(home.data)
    with pytest.raises(UserError, match="There are no conversions"):
        train(home, catalog)


def test_where_everybody_converts_there_is_nothing_to_tell_apart(home, catalog, make_history):
    make_history(n=200, right=1.0, wrong=1.0).write(home.data)
    with pytest.raises(UserError, match="Every one of 200"):
        train(home, catalog)


def two_models(files):
    """The same catalog, but the poetry pass belongs to a model of its own."""
    crime, poetry = files["offers.yaml"].split(b"poetry_pass")
    return load_catalog(
        {**files, "offers.yaml": crime + b"poetry_pass" + poetry.replace(b"model: passes", b"model: poems")}
    )


def test_it_must_be_clear_which_model_is_meant(home, catalog, catalog_files):
    with pytest.raises(UserError, match=r"model upsell\. It names: passes"):
        train(home, catalog, model="upsell")
    with pytest.raises(UserError, match="--model"):
        train(home, two_models(catalog_files))


def test_offers_of_other_models_are_held_at_their_means(home, catalog_files):
    train(home, two_models(catalog_files), model="passes", config="logistic")
    model = artifact.load(registry(home).files("passes", 1))
    assert [offer.name for offer in model.encoding.offers] == ["crime_pass"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('learner = "oracle"', "no learner 'oracle'"),
        ("depth = 3", "unknown key depth"),
        ("learner = ", "no TOML"),
        ('learner = "logistic"\n[params]\nC = [1]', "plain values"),
    ],
)
def test_a_bad_config_is_refused_with_the_reason(tmp_path, text, message):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(file)


def test_a_config_is_a_file_or_a_name_and_fills_in_the_learners_defaults(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('learner = "lightgbm"\n[params]\nnum_trees = 5\n')
    assert read_config(file).params["num_trees"] == 5
    assert read_config(file).params["num_leaves"] == 7
    assert read_config("logistic").learner == "logistic"
    assert read_config(None).learner == "lightgbm"
    with pytest.raises(UserError, match="constant, lightgbm, logistic"):
        read_config("nowhere.toml")
