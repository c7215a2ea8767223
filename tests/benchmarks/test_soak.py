"""The soak, made short: every kind of fault once, and its verdict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak_faults import FAULTS

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
def test_every_fault_in_two_minutes_fails_no_request_and_loses_nothing(tmp_path):
    out, every = tmp_path / "soak.json", 7.0
    minutes = (len(FAULTS) + 1.5) * every / 60
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", minutes, "--every", every, "--out", out]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert all(found["checks"].values())
    assert {one["fault"] for one in found["faults"]} == {name for name, _, _ in FAULTS}
    assert found["identical"] == found["replayed"] > 10_000
