"""Searching for parameters: on the earlier decisions alone, judged on the later ones, written down only if better."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from decisioning.errors import UserError
from models.crossing import Cross
from scaling.local import ALONE
from scaling.search import Choice, Range, Trials
from stores.registry import EXPERIMENT, Registry
from stores.tables import Tables
from training.config import CONFIGS, Config, read_config, to_toml
from training.fitting import Fitting
from training.held_out import cross_fitted, scored
from training.prepare import gather
from training.tuning import TRIALS, halves, tune

POOR = 'learner = "logistic"\n[params]\nC = 0.00001\n[search]\nC = { low = 0.00001, high = 1.0, log = true }\n'


@pytest.fixture
def poor(tmp_path):
    """A config whose ridge is far too strong."""
    (tmp_path / "poor.toml").write_text(POOR)
    return tmp_path / "poor.toml"


def over_time(tables, days=90):
    """The same decisions, spread over some days in the order of their ids; outcomes follow after a day."""
    at = tables.decisions["at"] + pd.to_timedelta(np.linspace(0, days, len(tables.decisions)), unit="D")
    moment = dict(zip(tables.decisions["decision_id"], at, strict=True))
    later = tables.outcomes["decision_id"].map(moment) + pd.Timedelta(days=1)
    dataset = {**tables.dataset, "as_of": "2026-08-01T00:00:00Z"}
    return Tables(tables.facts, tables.decisions.assign(at=at), tables.outcomes.assign(at=later), dataset)


def test_better_parameters_are_found_written_down_and_taken_by_training(home, catalog, poor):
    told = []
    found = tune(home, catalog, config=poor, trials=6, progress=lambda *at: told.append(at)).found
    assert found["is_better"]
    assert found["best"]["C"] > 0.0001
    assert found["searched_on"]["after"] < found["searched_on"]["before"]
    assert found["held_out"]["low"] > 0  # and on users that the search did not see
    assert told[-1] == (6, 6)
    written = read_config(home.path / "passes-tuned.toml")
    assert written.params["C"] == found["best"]["C"]
    assert written.search == read_config(poor).search
    assert found["before"] == found["table"][0]["params"] == {"C": 0.00001}


def test_the_same_seed_finds_the_same(home, catalog, poor):
    once, again = (tune(home, catalog, config=poor, trials=4).found for _ in range(2))
    for found in (once, again):
        for one in found["table"]:
            del one["seconds"]
    assert once == again


def test_where_nothing_is_surely_better_the_config_stays_as_it_is(home, catalog, tmp_path):
    """Beyond a weak ridge there is nothing to gain: all of it fits the same."""
    (tmp_path / "fine.toml").write_text(
        'learner = "logistic"\n[params]\nC = 1.0\n[search]\nC = { low = 0.9, high = 1.1 }\n'
    )
    tuning = tune(home, catalog, config=tmp_path / "fine.toml", trials=3)
    assert not tuning.found["is_better"]
    assert read_config(tuning.config) == read_config(tmp_path / "fine.toml")
    assert "none surely better" in tuning.config.read_text()


def test_the_search_sees_nothing_of_the_later_decisions(home, catalog, make_history, poor):
    tables = over_time(make_history())
    tables.write(home.data)
    found = tune(home, catalog, config=poor, trials=3).found
    assert found["held_out"]["how"] == "later decisions"
    latest = set(tables.decisions["decision_id"].tail(800))
    kept = tables.outcomes[~(tables.outcomes["decision_id"].isin(latest) & (tables.outcomes.index % 2 == 0))]
    replace(tables, outcomes=kept.reset_index(drop=True)).write(home.data)
    other = tune(home, catalog, config=poor, trials=3).found
    assert [one["loss"] for one in other["table"]] == [one["loss"] for one in found["table"]]
    assert other["held_out"]["before"] != found["held_out"]["before"]


def test_what_is_judged_by_comes_after_all_that_was_known_at_the_cut(home, catalog, make_history):
    over_time(make_history()).write(home.data)
    _, logged, _ = gather(home, catalog, "passes", read_config("logistic"), 3)
    first, rest, how = halves(logged, seed=0)
    assert how == "later decisions"
    assert logged.closed[first].max() <= logged.at[rest].min()


def test_other_users_are_held_out_where_all_was_decided_at_once(home, catalog):
    _, logged, _ = gather(home, catalog, "passes", read_config("logistic"), 3)
    first, rest, how = halves(logged, seed=0)
    assert how == "other users"
    assert not set(logged.user[first]) & set(logged.user[rest])
    assert len(first) + len(rest) == logged.n


def test_the_loss_of_a_learner_that_says_nothing_is_that_of_the_other_folds_rates(home, catalog):
    _, logged, encoding = gather(home, catalog, "passes", read_config("constant"), 3)
    folds, _ = scored(logged, encoding, 3, seed=0)
    sample = folds.lessons
    expected = np.empty(sample.n)
    for fold in range(3):
        for offer in range(2):
            others = (folds.fold != fold) & (sample.offers == offer)
            rate = (sample.outcome[others].sum() + sample.outcome[folds.fold != fold].mean()) / (others.sum() + 1)
            mine = (folds.fold == fold) & (sample.offers == offer)
            expected[mine] = -np.log(np.where(sample.outcome[mine] > 0, rate, 1 - rate))
    found = cross_fitted(Fitting(read_config("constant"), encoding, 0), folds)
    assert found == pytest.approx(expected)


def test_a_search_that_was_interrupted_writes_what_it_has_found(home, catalog, poor):
    class Impatient:
        ranks = workers = 1

        def search(self, task, asked, progress):
            whole = ALONE.search(task, asked, progress)
            return Trials(whole.trials[:2], "interrupted")

    found = tune(home, catalog, config=poor, trials=4, engine=Impatient()).found
    assert (found["trials"], found["stopped"]) == (2, "interrupted")
    assert (home.path / "passes-tuned.toml").is_file()


def test_a_search_that_found_nothing_writes_nothing(home, catalog, poor):
    class Nothing:
        def search(self, task, asked, progress):
            return Trials((), "interrupted")

    with pytest.raises(UserError, match="nothing was found, and nothing written"):
        tune(home, catalog, config=poor, engine=Nothing())
    assert not (home.path / "passes-tuned.toml").exists()


def test_the_run_is_in_mlflow_with_its_trials_and_no_version_comes_of_it(home, catalog, poor, tmp_path):
    tune(home, catalog, config=poor, trials=3)
    client = MlflowClient(tracking_uri=home.mlflow_uri)
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    metrics = run.data.metrics
    assert (run.info.run_name, run.info.status) == ("tune passes", "FINISHED")
    assert metrics["held_out.gain"] == pytest.approx(metrics["held_out.before"] - metrics["held_out.after"])
    assert float(run.data.params["C"]) > 0.00001
    table = json.loads(Path(client.download_artifacts(run.info.run_id, TRIALS, tmp_path)).read_text())["table"]
    assert len(table) == 3
    assert Registry(home.mlflow_uri, home.artifacts).versions("passes") == ()


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.toml")))
def test_a_config_written_down_is_read_as_the_same(name, tmp_path):
    config = read_config(name)
    (tmp_path / "again.toml").write_text(to_toml(config, "a comment\nof two lines"))
    assert read_config(tmp_path / "again.toml") == config


def test_what_a_config_may_say_besides_survives_being_written_down(tmp_path):
    config = Config(
        "lightgbm", {**read_config("lightgbm").params, "max_bin": 63, "bagging_freq": True}, {"age": -1},
        (Cross("age", "price"), Cross("likes", "genre")), "isotonic", 0.5, "delay_weighted", 0.1,
        {"max_bin": Choice((31, 63)), "lambda_l2": Range(0.0, 2.0)},
    )  # fmt: skip
    (tmp_path / "again.toml").write_text(to_toml(config, "all of it"))
    assert read_config(tmp_path / "again.toml") == config


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("C = { low = 1.0, high = 0.1 }", "low below high"),
        ("C = { low = 0.0, high = 1.0, log = true }", "above 0 with log"),
        ("C = [0.1]", "two or more values"),
        ("C = 3", "must be"),
        ("D = { low = 1, high = 2 }", "D is no parameter of the logistic"),
        ("C = { low = 0.2, high = 1.0 }", "C = 0.1, which is outside"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path, search, said):
    (tmp_path / "mine.toml").write_text(f'learner = "logistic"\n[search]\n{search}\n')
    with pytest.raises(UserError, match=said):
        read_config(tmp_path / "mine.toml")


def test_what_has_nothing_to_search_for_and_too_few_trials_are_refused(home, catalog, poor):
    with pytest.raises(UserError, match="nothing to search for"):
        tune(home, catalog, config="constant")
    with pytest.raises(UserError, match="2 or more"):
        tune(home, catalog, config=poor, trials=1)
