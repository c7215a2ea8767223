"""Batches on Ray come to what they come to here: the same files, the same decisions, budgets kept all the same."""

import pyarrow.parquet as pq
import pytest
from killed_batch import batch
from post_office import NOW

from evaluation.batch.jobs import Question, score_all
from scaling.local import ALONE


def contents(folder):
    """Every Parquet file by name."""
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def test_scores_from_ray_are_the_same_files_to_the_last_byte(crowd, ray_engine, tmp_path):
    users = crowd.list_of(tmp_path / "users.csv")
    for name, engine in (("here", ALONE), ("there", ray_engine)):
        question = Question(crowd.load, "push", crowd.snapshot, users, tmp_path / name, NOW, part_rows=2048)
        assert score_all(question, engine)["tally"]["users"] == 4200
    assert len(contents(tmp_path / "here")) == 3
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.heavy
def test_decisions_from_ray_are_the_same_and_overspend_no_budget(crowd, store, other_store, ray_engine, tmp_path):
    batch(crowd, tmp_path / "here", store, surface="banner", part_rows=2048)
    batch(crowd, tmp_path / "there", other_store, engine=ray_engine, surface="banner", part_rows=2048)
    assert pq.read_table(tmp_path / "there").to_pylist() == pq.read_table(tmp_path / "here").to_pylist()
    batch(crowd, tmp_path / "push", other_store, engine=ray_engine, part_rows=2048)
    slates = pq.read_table(tmp_path / "push")["slate"].to_pylist()
    assert sum(one["offer"] == "vinyl" for slate in slates for one in slate) == 25  # all there are, and no more
