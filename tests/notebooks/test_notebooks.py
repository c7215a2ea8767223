"""The notebooks run from top to bottom on a small history, come to conclusions, and open in Jupyter."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import jupytext
import nbformat
import pytest

from decisioning.errors import UserError
from evaluation.simulator.tables import simulate
from features.snapshot_drift import history
from stores.home import Home
from workbench import SAMPLE_CATALOG

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "practice")
CONCLUSIONS = {
    "explore_a_snapshot": [
        r"400 users, 30 features; 7 snapshots in all",
        r"- Moved beyond what is usual: ",
        r"- Too old to be used: none",
    ],
    "train_and_read_the_evidence": [
        r"upsell/\d+: lightgbm on \d+ matured decisions",
        r"mean weight: random +1\.0 .* True",
        r"random is truly worth 0\.\d+; estimated 0\.\d+, without an interval: not enough support: ",
        r"pass +catalog tests",
        r"- The gate: \d+ of \d+ lines pass",
    ],
    "judge_a_rule_change": [
        r"0 warnings, 2 of the catalog's own tests fail",
        r"The reach of 0 other offers changes",
        r"- nothing>1%: holds",
        r"- Verdict: not as it is \(2 of the catalog's own tests fail\)",
    ],
}


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Home:
    where = Home(tmp_path_factory.mktemp("notebooks"))
    simulate(where, SAMPLE_CATALOG, users=400, days=18, seed=1, until=date(2026, 11, 22))
    return where


def run(name: str, home: Home) -> str:
    environment = {**os.environ, "SEGUE_HOME": str(home.path), "MPLBACKEND": "agg"}
    script = [sys.executable, "-W", "error::FutureWarning:__main__", "-W", "error::UserWarning:__main__", f"{name}.py"]
    done = subprocess.run(script, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_notebook_has_conclusions_that_are_checked():
    assert sorted(CONCLUSIONS) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_comes_to_its_conclusions(name, home):
    told = run(name, home)
    for conclusion in CONCLUSIONS[name]:
        assert re.search(conclusion, told), f"{conclusion!r} is not in:\n{told}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_in_jupyter_and_comes_back_the_same(name, tmp_path):
    source = FOLDER / f"{name}.py"
    notebook = jupytext.read(source)
    jupytext.write(notebook, tmp_path / f"{name}.ipynb")
    opened = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    nbformat.validate(opened)
    kinds = [cell.cell_type for cell in opened.cells]
    assert kinds[0] == "markdown"
    assert opened.cells[0].source.startswith("# ")
    assert kinds.count("code") >= 6
    assert any(cell.source.startswith("## What to conclude") for cell in opened.cells)
    assert jupytext.writes(opened, "py:percent").split("# %%", 1)[1] == source.read_text().split("# %%", 1)[1]


@pytest.fixture
def practice(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("practice")
    monkeypatch.setattr(module, "USERS", 60)
    monkeypatch.setattr(module, "DAYS", 8)
    return module


def test_an_empty_work_folder_gets_a_history_snapshots_and_traffic_once(practice, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path / "fresh"))
    home = practice.practice_home()
    catalog = practice.practice_catalog(home)
    snapshots = practice.practice_snapshots(home, catalog, days=2)
    release = practice.practice_traffic(home, catalog)
    assert len(snapshots) == 3
    assert release.id == f"catalog-{catalog.hash[:12]}"

    made = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    assert practice.practice_home() == home
    assert [one.id for one in practice.practice_snapshots(home, catalog)] == [one.id for one in snapshots]
    assert practice.practice_traffic(home, catalog).id == release.id
    assert made == {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    assert len(history(home.snapshots)) == 3


def test_data_without_a_known_truth_get_no_invented_traffic(practice, home, tmp_path):
    own = Home(tmp_path)
    shutil.copytree(home.data, own.data, ignore=shutil.ignore_patterns("truth.parquet"))
    with pytest.raises(UserError, match="serve some first"):
        practice.practice_traffic(own, practice.practice_catalog(home))
    assert not own.logs.exists()
