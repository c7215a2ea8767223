"""Verbs on an engine, as real processes: the answers are the same, and standard output is theirs alone."""

import os

import pytest
from kiosk import kiosk

from training.config import read_config


@pytest.fixture(scope="module")
def imported(terminal, history):
    files = [word for name in ("facts", "decisions", "outcomes") for word in (f"--{name}", history / f"{name}.csv")]
    terminal.segue("data", "import", "tables", *files)
    return terminal


def test_an_engine_that_is_none_is_refused_before_anything_is_read(terminal):
    assert "There is no engine 'spark': choose local or ray." in terminal.segue("replay", "--engine", "spark", expect=2)
    assert "1 or more" in terminal.segue("train", "--workers", "0", expect=2)


def test_parameters_are_searched_for_and_trained_with(imported):
    found = imported.json("tune", "--config", "logistic", "--trials", "3")
    assert (found["trials"], found["stopped"]) == (3, None)
    assert read_config(found["config"]).learner == "logistic"
    told = imported.segue("tune", "--config", "logistic", "--trials", "2", "--out", imported.home / "mine.toml")
    assert "as it is" in told
    assert f"segue train --config {imported.home / 'mine.toml'}" in " ".join(told.split())
    trained = imported.json("train", "--config", imported.home / "mine.toml")
    assert trained["params"] == read_config(imported.home / "mine.toml").params
    shared = imported.json("train", "--config", imported.home / "mine.toml", "--workers", "2")
    assert {key for key in trained if trained[key] != shared[key]} == {"version"}  # folds fitted side by side


@pytest.mark.heavy
def test_a_replay_on_ray_prints_what_a_replay_here_prints_and_leaves_nothing_behind(tmp_path, terminal):
    shop = kiosk(tmp_path / "kiosk")
    shop.log(shop.records(300))
    home = ("--home", shop.home.path)
    before = {name for name in os.listdir("/tmp") if name.startswith("segue-ray-")}
    there = terminal.json("replay", "--last", "all", "--engine", "ray", *home)
    assert there == terminal.json("replay", "--last", "all", *home)
    assert there["identical"] == 300
    assert {name for name in os.listdir("/tmp") if name.startswith("segue-ray-")} == before
