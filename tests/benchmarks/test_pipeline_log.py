"""kill -9 at random moments loses nothing that was acknowledged; and the benchmark measures what it says."""

import pytest

from benchmarks import pipeline_log
from stores.log.decision_log import decode


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.heavy)])
def test_a_process_that_is_killed_at_random_moments_loses_nothing_that_it_acknowledged(tmp_path, times):
    found = pipeline_log.kills(times, tmp_path / "log")
    assert found["kills"] == times
    assert found["acknowledged"] > 20 * times
    assert found["lost"] == 0


def test_a_lost_line_would_be_noticed(tmp_path):
    pipeline_log.kills(2, tmp_path / "log")
    first = min((tmp_path / "log").glob("*.jsonl"))
    first.write_bytes(first.read_bytes().split(b"\n", 1)[1])
    assert pipeline_log.kills(0, tmp_path / "log")["acknowledged"] == 0
    kept = pipeline_log.read_numbers(tmp_path / "log")
    assert 0 not in kept
    assert 1 in kept


def test_the_lines_are_real_decisions_and_every_append_is_timed(tmp_path):
    lines = pipeline_log.decisions(12)
    assert {decode(line).decision.surface for line in lines} == {decode(line).request.surface for line in lines}
    found = pipeline_log.appends(lines, 3, tmp_path)
    assert found["append_us"]["runs"] == 3
    assert 0 < found["append_us"]["low"] <= found["append_us"]["median"] <= found["append_us"]["high"]
    assert found["line_bytes"] > 1_000
    assert found["lines_a_run"] == 12
