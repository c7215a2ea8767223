"""Data that teaches nothing, or lies: a clear sentence, or an honest "not shown", never a NaN and never a certainty."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from models import artifact
from stores.home import Home
from stores.registry import Registry
from stores.tables import Tables
from training.importers.tables import import_tables
from training.train import train

CHEAP = 'learner = "lightgbm"\n[params]\nnum_trees = 5\n'


@pytest.fixture
def cheap(tmp_path):
    file = tmp_path / "cheap.toml"
    file.write_text(CHEAP)
    return file


def numbers(value):
    """Every number in what a training found."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


def changed(tables, **parts):
    frames = {name: parts.get(name, getattr(tables, name)) for name in ("facts", "decisions", "outcomes")}
    return Tables(**frames, dataset=tables.dataset)


def check_honest(metrics):
    assert all(math.isfinite(number) for number in numbers(metrics))
    for record in metrics["policy_values"]:
        assert record["low"] is None or record["low"] < record["high"]
        assert record["diff_low"] is None or record["diff_low"] < record["diff_high"]
    json.dumps(metrics, allow_nan=False)


def test_features_that_never_change_or_are_never_known_teach_nothing(home, catalog, make_history, cheap):
    tables = make_history()
    facts = tables.facts.assign(
        likes_crime=pd.array([True] * 3000, dtype="boolean"), age=pd.array([None] * 3000, dtype="Int64")
    )
    changed(tables, facts=facts).write(home.data)
    found = train(home, catalog, config=cheap, folds=3).metrics
    assert found["shrinkage"] == 0.0
    check_honest(found)


def test_an_offer_that_was_possible_and_never_shown_has_its_groups_rate(home, catalog_files, make_history, cheap):
    text = catalog_files["offers.yaml"]
    third = text.split(b"offers:\n")[1].split(b"  poetry_pass")[0].replace(b"crime_pass", b"cook_book")
    catalog = load_catalog({**catalog_files, "offers.yaml": text + third})
    tables = make_history()
    lists = [["cook_book", "crime_pass", "poetry_pass"]] * 3000
    changed(tables, decisions=tables.decisions.assign(eligible=lists)).write(home.data)
    found = train(home, catalog, config=cheap, folds=3).metrics
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 1))
    assert model.means.offers["cook_book"] == model.means.groups["passes"]
    check_honest(found)
    never = next(r for r in found["policy_values"] if (r["policy"], r["estimator"]) == ("only:cook_book", "dr"))
    assert "not enough support" in never["note"]


def test_an_offer_on_which_nobody_ever_converted_is_no_certainty(home, catalog, make_history, cheap):
    tables = make_history()
    crime = set(tables.decisions.loc[tables.decisions["offer"] == "crime_pass", "decision_id"])
    outcomes = tables.outcomes[tables.outcomes["decision_id"].isin(crime)].reset_index(drop=True)
    changed(tables, outcomes=outcomes).write(home.data)
    for config in (cheap, "t_learner", "dr_learner"):
        check_honest(train(home, catalog, config=config, folds=3).metrics)


def test_facts_of_another_schema_are_refused_by_name(home, catalog, make_history):
    tables = make_history()
    other = tables.facts.drop(columns="age").assign(height=1.8)
    changed(tables, facts=other).write(home.data)
    with pytest.raises(UserError, match="facts lack 1 features of the catalog: age"):
        train(home, catalog)
    changed(tables, facts=tables.facts.assign(age=pd.array(["old"] * 3000, dtype="string"))).write(home.data)
    with pytest.raises(UserError, match="age is int, and the facts hold it as string"):
        train(home, catalog)


def test_too_few_users_to_fold_are_refused(home, catalog, make_history):
    tables = make_history()
    alone = tables.decisions.assign(user_id=pd.array(["one", "two"] * 1500, dtype="string"))
    changed(tables, decisions=alone).write(home.data)
    with pytest.raises(UserError, match="5 folds can't be made of 2 users"):
        train(home, catalog)


@pytest.mark.parametrize("said", [0.05, 0.1])
def test_probabilities_that_cannot_be_right_are_refused(home, catalog, make_history, cheap, said):
    """Each of two offers was shown in half of the decisions: neither can have had a chance of a tenth."""
    tables = make_history()
    changed(tables, decisions=tables.decisions.assign(probability=said)).write(home.data)
    with pytest.raises(UserError, match=r"crime_pass was shown .* probabilities .* add up"):
        train(home, catalog, config=cheap)


def files_of(tables, folder):
    paths = {}
    for name in ("facts", "decisions", "outcomes"):
        paths[name] = folder / f"{name}.csv"
        frame = getattr(tables, name).copy()
        for column in frame.columns:
            if str(frame[column].dtype).startswith("datetime"):
                frame[column] = frame[column].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        frame.to_csv(paths[name], index=False)
    return paths


def test_a_column_with_more_categories_than_anyone_can_learn_is_left_out_and_said(tmp_path, make_history):
    tables = make_history()
    n = 100_000  # a million takes the same way, and ten times as long
    many = make_history(n=n)
    facts = many.facts.assign(session=pd.array(np.char.add("s", np.arange(n).astype(str)), dtype="string"))
    home = Home(tmp_path / "home")
    found = import_tables(home, **files_of(changed(many, facts=facts), tmp_path))
    assert "session" not in found["features"]
    assert "100000 different" in found["ignored"]["session"].replace(",", "")
    assert len(tables.facts) == 3000


def test_facts_from_after_their_decision_are_refused_as_a_leak(tmp_path, make_history):
    tables = make_history(n=50)
    moments = tables.decisions["at"].copy()
    moments.iloc[7] += pd.Timedelta(hours=1)
    with pytest.raises(UserError, match=r"row 8 .*after its decision: the facts would leak the future"):
        import_tables(
            Home(tmp_path / "home"),
            **files_of(changed(tables, facts=tables.facts.assign(as_of=moments)), tmp_path),
        )
    assert not (tmp_path / "home" / "data").exists()


@pytest.mark.parametrize(("param", "said"), [("num_machines = 4", "engine ray"), ("early_stopping_round = 5", "can't")])
def test_what_a_config_can_not_say_of_lightgbm_is_refused(home, catalog, tmp_path, param, said):
    (tmp_path / "mine.toml").write_text(f'learner = "lightgbm"\n[params]\n{param}\n')
    with pytest.raises(UserError, match=said):
        train(home, catalog, config=tmp_path / "mine.toml")
