"""The plan in docs/scale.md is what the measured slopes come to."""

import json
from pathlib import Path

import pytest

from benchmarks.scale import RESULTS, slopes
from benchmarks.scale_plan import Load, plan

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_page_has_the_plan_of_the_figures_that_are_kept():
    assert plan(json.loads(RESULTS.read_text())) in DOCS.read_text()


def test_a_slope_is_what_one_more_takes_without_what_starting_takes():
    assert slopes([100, 300], [{"core_seconds": 5.0}, {"core_seconds": 6.0}]) == {"core_seconds": pytest.approx(0.005)}


def test_the_plan_goes_up_in_a_straight_line_with_the_users():
    found = json.loads(RESULTS.read_text())
    one, two = (plan(found, Load(users=users)).splitlines() for users in (100e6, 200e6))
    (once,), (twice,) = ([line for line in lines if line.startswith("| a version of features")] for lines in (one, two))
    gigabytes = [float(line.split("|")[3].split()[0]) for line in (once, twice)]
    assert gigabytes[1] == pytest.approx(2 * gigabytes[0], abs=1)
