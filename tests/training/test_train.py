import json

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.values.crossfit import CrossFit
from models import artifact
from models.learners import LEARNERS
from stores.registry import CHALLENGER, Registry
from stores.tables import Tables
from training.config import CONFIGS, config_of, read_config
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
        ('calibration = "beta"', "no calibration 'beta'. Choose one of: isotonic, platt"),
        ('positives = "all"', "no way of taking positives 'all'"),
        ("shrinkage = 1.5", "shrinkage is 1.5"),
        ("shrinkage = true", "shrinkage is True"),
        ("[monotone]\nage = 2", "feature = 1"),
        ('crosses = ["likes_crime"]', "pairs of a feature and an attribute"),
        ('crosses = [["age", 3]]', "pairs of a feature and an attribute"),
        (
            'learner = "logistic"\ncrosses = [["age", "length"]]',
            "logistic knows no crosses: take them out, or use lightgbm",
        ),
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
    with pytest.raises(UserError, match="constant, dr_learner, lightgbm, lightgbm_plain, logistic"):
        read_config("nowhere.toml")


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.toml")))
def test_every_config_that_is_shipped_can_be_read_and_says_no_more_than_its_learner_knows(name):
    config = read_config(name)
    assert set(config.params) == set(LEARNERS[config.learner].defaults)
    assert name in (config.learner, f"{config.learner}_plain", "lightgbm_plain")


def test_a_version_remembers_its_whole_config(home, catalog, tmp_path):
    """So that it can be judged again in the same way."""
    file = tmp_path / "config.toml"
    file.write_text(
        'learner = "t_learner"\ncalibration = "isotonic"\nshrinkage = 0.5\npositives = "delay_weighted"\n'
        "[params]\nnum_trees = 5\nmin_rows = 100\n[monotone]\nage = -1\n"
    )
    result = train(home, catalog, config=file, folds=3)
    model = artifact.load(registry(home).files("passes", 1))
    assert config_of(model) == read_config(file)
    assert model.calibration.to_json()["kind"] == "isotonic"
    again = evaluate(home, catalog, version=1, folds=3).to_json()
    assert again["policy_values"] == result.metrics["policy_values"]
    crime = [model.raw({"likes_crime": True, "age": age}, "front", ["crime_pass"])["crime_pass"] for age in range(90)]
    assert crime == sorted(crime, reverse=True)


def test_a_config_crosses_users_with_offers(home, catalog_files, tmp_path):
    """A version remembers the crosses, and its trees ask for them before anything else."""
    files = dict(catalog_files)
    for name, crime in ((b"crime_pass", b"1"), (b"poetry_pass", b"-1")):
        files["offers.yaml"] = files["offers.yaml"].replace(
            name + b": {", name + b": {attributes: {crime: " + crime + b"}, "
        )
    file = tmp_path / "config.toml"
    file.write_text('crosses = [["likes_crime", "crime"]]\n[params]\nnum_trees = 5\n')
    crossed = load_catalog(files)
    train(home, crossed, config=file, folds=3)
    model = artifact.load(registry(home).files("passes", 1))
    assert config_of(model) == read_config(file)
    assert model.encoding.columns[-1] == "likes_crime × attribute.crime"
    first = model.predictor.texts["model.txt"].split("split_feature=")[1].split()[0]
    assert first == str(len(model.encoding.columns) - 1)
    assert evaluate(home, crossed, version=1, folds=3).metrics["crosses"] == [["likes_crime", "crime"]]
    file.write_text('crosses = [["age", "crimes"]]\n')
    with pytest.raises(UserError, match="age can't be crossed with crimes: no offer has an attribute crimes"):
        train(home, crossed, config=file)


def test_a_fixed_shrinkage_is_kept_whatever_the_evidence_says(home, catalog, make_history, tmp_path):
    make_history(right=0.2, wrong=0.2, seed=4).write(home.data)
    file = tmp_path / "config.toml"
    file.write_text('learner = "logistic"\nshrinkage = 1.0\n')
    found = train(home, catalog, config=file, folds=3).metrics
    assert found["shrinkage"] == 1.0
    assert found["fold_shrinkages"] == [1.0, 1.0, 1.0]
    assert "no evidence was asked" in found["says"]


def test_an_offer_that_left_the_catalog_does_not_stop_training(home, catalog, make_history):
    """It stays what was shown: the others' values are what they were, and the model has no such offer."""
    tables = make_history()
    gone = tables.decisions["offer"].where(tables.decisions.index % 3 > 0, "cook_book")
    decisions = tables.decisions.assign(offer=gone, probability=1 / 3)
    Tables(tables.facts, decisions, tables.outcomes, tables.dataset).write(home.data)
    found = train(home, catalog, config="logistic").metrics
    assert found["retired"] == ["cook_book"]
    assert found["decisions"] == 3000
    assert "only:cook_book" not in {record["policy"] for record in found["policy_values"]}
    values = {r["policy"]: r for r in found["policy_values"] if r["estimator"] == "dr"}
    assert values["random"]["low"] < 0.225 < values["random"]["high"]
    assert values["trained"]["low"] < 0.35 < values["trained"]["high"]
    model = artifact.load(registry(home).files("passes", 1))
    assert [offer.name for offer in model.encoding.offers] == ["crime_pass", "poetry_pass"]
    assert "cook_book" not in model.means.offers
    assert set(model.means.groups) == {"passes"}
