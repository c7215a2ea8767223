"""A batch that is killed before any of its steps, with the log compacted before it goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLED = """
import sys
from pathlib import Path
from types import SimpleNamespace

from killed_batch import batch
from killing import killed_before

from evaluation.batch.without_store import WithoutStore
from features.snapshots import current
from stores.home import Home
from stores.log.compaction import compact
from stores.log.reader import read
from workbench import current_release, release_of
from functools import partial

home, root, stride = Home(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
load = partial(release_of, home, current_release(home).id)
office = SimpleNamespace(home=home, load=load, snapshot=current(home.snapshots))


def decide(name):
    folder = root / name
    batch(office, folder / "out", WithoutStore(), log=folder / "logs" / "decisions", surface="mail", part_rows=150)


def lines(name):
    return sorted(read(root / name / "logs" / "decisions"))


def check(name):
    assert lines(name) == lines("whole"), name
    litter = [path for path in (root / name).rglob(".*") if path.name != ".lock"]
    assert not litter, litter


def again(name):
    decide(name)
    compact(root / name / "logs" / "decisions")
    check(name)


def alone(work, *words):
    assert not killed_before(10**9, partial(work, *words))  # in a process of its own: this one has no threads


alone(decide, "whole")
fatal, alive = 0, False
while not alive:
    fatal += stride
    name = str(fatal)
    alive = not killed_before(fatal, partial(decide, name))
    alone(lambda: (root / name / "logs" / "decisions").exists() and compact(root / name / "logs" / "decisions"))
    alone(again, name)
print(fatal)
"""


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.heavy), 5])
def test_every_decision_is_in_the_log_once_and_nothing_half_written_stays(office, tmp_path, stride):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    command = [sys.executable, "-c", KILLED, str(office.home.path), str(tmp_path), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
