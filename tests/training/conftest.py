"""A work folder with a small history: two passes shown at random, and readers who prefer one of them."""

from shutil import copy

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog_yaml import load_catalog
from stores.home import Home
from stores.registry import make_database
from stores.tables import Tables

START = pd.Timestamp("2026-03-01", tz="UTC")
CATALOG = {
    "features.yaml": b"features:\n  likes_crime: {type: bool}\n  age: {type: int}\n",
    "surfaces.yaml": b"surfaces:\n  front: {slots: 1, fallback: null, allow_nothing: true}\n"
    b"groups:\n  passes: {converts_on: convert, within: 14d}\n",
    "offers.yaml": b"offers:\n"
    b"  crime_pass: {owner: pm, group: passes, surfaces: [front], score: {model: passes, value: 1}}\n"
    b"  poetry_pass: {owner: pm, group: passes, surfaces: [front], score: {model: passes, value: 1}}\n",
}


def history(n=3000, right=0.35, wrong=0.1, seed=0, start=START):
    rng = np.random.default_rng(seed)
    likes, crime = rng.random(n) < 0.5, rng.random(n) < 0.5
    ids = pd.array([f"d{i}" for i in range(n)], dtype="string")
    bought = np.flatnonzero(rng.random(n) < np.where(likes == crime, right, wrong))
    facts = pd.DataFrame(
        {
            "decision_id": ids,
            "likes_crime": pd.array(likes, dtype="boolean"),
            "age": pd.array(rng.integers(16, 80, n), dtype="Int64"),
        }
    )
    decisions = pd.DataFrame(
        {
            "decision_id": ids,
            "user_id": pd.array([f"u{i}" for i in range(n)], dtype="string"),
            "at": pd.Series([start] * n),
            "surface": pd.array(["front"] * n, dtype="string"),
            "offer": pd.array(np.where(crime, "crime_pass", "poetry_pass"), dtype="string"),
            "probability": 0.5,
        }
    )
    outcomes = pd.DataFrame(
        {
            "event_id": pd.array([f"e{i}" for i in bought], dtype="string"),
            "decision_id": ids[bought],
            "type": pd.array(["convert"] * len(bought), dtype="string"),
            "value": pd.array([None] * len(bought), dtype="Float64"),
            "at": pd.Series([start + pd.Timedelta(days=1)] * len(bought)).astype("datetime64[ns, UTC]"),
        }
    )
    return Tables(facts, decisions, outcomes, {"source": "test", "as_of": "2026-05-01T00:00:00Z"})


@pytest.fixture
def make_history():
    return history


@pytest.fixture(scope="session")
def catalog_files():
    return dict(CATALOG)


@pytest.fixture(scope="session")
def catalog(catalog_files):
    return load_catalog(catalog_files)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory):
    """A database that MLflow has set up: setting one up takes seconds, copying it none."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    make_database(file)
    return file


@pytest.fixture
def home(tmp_path, empty_registry, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = Home(tmp_path / "home")
    history().write(where.data)
    copy(empty_registry, where.path / "mlflow.db")
    return where


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory, empty_registry):
    """A home in which two versions were trained: 1 with a gain to show, and 2 that can't show any."""
    from training.train import train

    where = Home(tmp_path_factory.mktemp("trained"))
    copy(empty_registry, where.path / "mlflow.db")
    catalog = load_catalog(CATALOG)
    history().write(where.data)
    train(where, catalog, config="logistic")
    train(where, catalog, config="constant")
    return where
