"""`segue demo --check`, on simulated listeners and on the Hillstrom trial, as `make demo` runs it."""

import os
from pathlib import Path

import pytest

HILLSTROM = Path(os.environ.get("SEGUE_HILLSTROM", Path(__file__).parents[3] / "shared" / "data" / "hillstrom.csv"))


def test_the_tour_of_simulated_listeners_verifies_itself(terminal):
    result = terminal.json("demo", "--check", "--users", 4000, "--port", 0, "--home", terminal.home / "tour")
    assert result["ok"], result["problems"]
    assert set(result["seconds"]) >= {"simulate", "features", "train", "promote", "valkey", "publish", "serve", "check"}
    assert not (terminal.home / "tour" / "valkey" / "valkey.sock").exists()


@pytest.mark.skipif(not HILLSTROM.is_file(), reason="the Hillstrom trial is not here: set SEGUE_HILLSTROM to its CSV")
def test_the_hillstrom_trial_meets_the_published_figures(terminal):
    words = ["--data", "hillstrom", "--file", HILLSTROM, "--check", "--port", 0, "--home", terminal.home / "trial"]
    result = terminal.json("demo", *words)
    assert result["ok"], result["problems"]
    rows = {(r["policy"], r["outcome"]): r for r in result["policy_values"] if r["estimator"] == "dr"}
    assert {outcome for _, outcome in rows} >= {"visit", "conversion", "spend"}
    best = rows["best_single_offer", "visit"]
    assert best["value"] == pytest.approx(0.1823, abs=0.0051)
    assert best["high"] - best["low"] == pytest.approx(0.0102, abs=0.002)
    trained = rows["trained", "visit"]
    assert trained["diff_low"] > -0.005
    assert trained["diff_low"] < trained["diff_high"]
