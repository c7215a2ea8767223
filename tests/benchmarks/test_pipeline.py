"""The assembler of the pipeline's figures: all that were asked for, beside their targets."""

import sys
from types import ModuleType

from benchmarks.pipeline import PIPELINE

ASKED_FOR = {
    *("snapshot_vs_pandas_time", "snapshot_vs_pandas_memory", "publish_users_per_s", "bytes_per_user"),
    *("read_vs_get_p50", "flip_reads", "flip_misses", "flip_mixed", "feast_publish_ratio", "feast_read_ratio"),
    *("append_us", "batch_score_vs_booster"),
}


def test_every_figure_that_was_asked_for_has_a_part_that_exists():
    assert PIPELINE.targets.keys() == ASKED_FOR
    assert set(PIPELINE.parts) == {"snapshot", "publish", "feast", "log", "score"}


def test_a_figure_with_a_spread_is_held_against_its_target_by_its_median(monkeypatch):
    part = ModuleType("benchmarks.pipeline_log")
    part.measure = lambda quick: {"append_us": {"median": 12.5, "low": 2.0, "high": 90.0, "runs": 3}}
    monkeypatch.setitem(sys.modules, "benchmarks.pipeline_log", part)
    found = PIPELINE.run(["log"], quick=True, before={})
    (line,) = [line for line in PIPELINE.table(found).splitlines() if line.startswith("append_us")]
    assert line.split()[1:5] == ["12.5", "≤", "10", "MISSED"]
    assert found["problems"] == []


def test_a_figure_without_a_target_is_told_and_neither_met_nor_missed():
    (line,) = [line for line in PIPELINE.table({"feast_read_ratio": 2.5}).splitlines() if "feast_read" in line]
    assert "met" not in line.lower().split()
    assert "missed" not in line.lower().split()
