"""`segue features refresh` as people use it."""

import json
import time
from functools import partial
from pathlib import Path

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch, here):
    """Runs a verb in this process: its exit code, and what it said on both streams."""
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path / "home"))
    return partial(here, "features")


def written(folder: Path, **values) -> Path:
    file = folder / "values.jsonl"
    file.write_text(json.dumps({"user_id": "ann", "at": time.time(), "values": values}))
    return file


def test_values_are_stored_by_the_catalogs_features(run, tmp_path):
    code, told, _ = run("refresh", written(tmp_path, sessions_7d=9, tier="premium"), "--json")
    assert (code, json.loads(told)) == (0, {"users": 1, "values": 2, "taken": 2})


def test_a_mistake_is_told_in_one_message(run, tmp_path):
    code, told, said = run("refresh", written(tmp_path, sessions_7=9))
    assert (code, told) == (2, "")
    assert 'line 1: the snapshot has no feature "sessions_7"' in said
    code, _, said = run("refresh", written(tmp_path, sessions_7d=9), "--redis-url", "http://store")
    assert (code, "must begin with redis://" in said) == (2, True)
