"""The assembler of the learning figures: one part that fails costs no other."""

import sys
from types import ModuleType

import pytest

from benchmarks import learning


@pytest.fixture
def part(monkeypatch):
    """Puts a part of the benchmarks in place of the real one."""

    def put(name, measure):
        module = ModuleType(f"benchmarks.learning_{name}")
        module.__doc__, module.measure = f"{name}, for a test.", measure
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


def test_the_figures_of_a_part_stand_beside_those_that_were_there(part):
    part("whatif", lambda quick: {"whatif_1m_s": 80.0, "whatif_decisions": 1_000_000})
    found = learning.run(["whatif"], quick=True, before={"train_1m_s": 200.0, "whatif_1m_s": 100.0})
    assert (found["train_1m_s"], found["whatif_1m_s"], found["whatif_decisions"]) == (200.0, 80.0, 1_000_000)
    assert found["problems"] == []


def test_a_part_that_fails_leaves_its_figures_empty_and_is_said(part):
    def fail(quick):
        raise ValueError("no data")

    part("simulator", fail)
    part("whatif", lambda quick: {"whatif_1m_s": 80.0})
    found = learning.run(["simulator", "whatif"], quick=True, before={"vs_vw": 0.1})
    assert (found["vs_vw"], found["whatif_1m_s"]) == (None, 80.0)
    assert found["problems"] == ["simulator: ValueError: no data"]
    assert "not measured" in learning.table(found)


def test_a_part_that_does_not_measure_what_it_should_is_said(part):
    part("train", lambda quick: {"train_1m_s": 310.0})
    found = learning.run(["train"], quick=True, before={})
    assert found["problems"] == ["train: it does not measure train_1m_peak_gb"]
    (line,) = [line for line in learning.table(found).splitlines() if line.startswith("train_1m_s")]
    assert "MISSED" in line


def test_a_part_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "benchmarks.learning_whatif", None)
    found = learning.run(["whatif"], quick=True, before={})
    assert found["whatif_1m_s"] is None
    assert found["problems"][0].startswith("whatif: ")
