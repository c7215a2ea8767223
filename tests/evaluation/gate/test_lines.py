"""Every line of the promotion gate: what passes, what fails, and what is not shown."""

from dataclasses import replace

import pytest

from evaluation.gate.lines import (
    Calibration,
    Comparison,
    Line,
    Shadow,
    Verdict,
    calibration_lines,
    evidence_lines,
    refused,
    segment_lines,
    shadow_lines,
)
from evaluation.values.reliability import CalibrationCell
from evaluation.values.segments import SegmentDifference, Status

PASS, FAIL, UNSHOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNSHOWN
SHADOW = Shadow(
    decisions=5_000,
    compared=40_000,
    off=0,
    uncompared=0,
    timed=5_000,
    p99=0.004,
    deadline=0.030,
    scoring_p99=0.0002,
    replayed=5_000,
    identical=5_000,
)
AHEAD = Comparison("the champion m/1", "net_value", 0.40, 0.05, 0.01, 12_000, differing=0.4, source="9,000 decisions")
CELL = CalibrationCell("annual", "SE", 9_000, 400, 0.05, 0.05, 0.001, 0.001, 1.0, 0.9, 1.1)
SEGMENT = SegmentDifference("market", "SE", 900, 800, 1_200, 0.4, 0.0, -0.1, 0.1, -0.2, 0.2, 0.9, Status.OPEN, None)


def verdicts(lines):
    return {line.check: line.verdict for line in lines}


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        ({}, "skew", PASS),
        ({"off": 39}, "skew", PASS),
        ({"off": 40}, "skew", FAIL),
        ({"compared": 2_999}, "skew", UNSHOWN),
        ({"compared": 100, "off": 1}, "skew", UNSHOWN),  # one value is no share
        ({"compared": 100, "off": 2}, "skew", FAIL),
        ({"compared": 0}, "skew", UNSHOWN),
        ({}, "latency", PASS),
        ({"p99": 0.0301}, "latency", FAIL),
        ({"p99": 0.0301, "timed": 999}, "latency", UNSHOWN),
        ({}, "replay", PASS),
        ({"identical": 4_999}, "replay", FAIL),
    ],
)
def test_shadow_has_to_agree_with_the_snapshot_to_be_quick_and_to_replay(change, check, verdict):
    assert verdicts(shadow_lines(replace(SHADOW, **change)))[check] is verdict


def test_a_version_without_live_traffic_has_nothing_to_show_and_passes_nothing():
    for nothing in (None, replace(SHADOW, decisions=0)):
        assert verdicts(shadow_lines(nothing)) == {"shadow": UNSHOWN}


@pytest.mark.parametrize(
    ("ece", "by_chance", "verdict"),
    [
        (0.01, 0.0, PASS),
        (0.0101, 0.0, FAIL),
        (0.03, 0.021, UNSHOWN),
        (0.03, 0.019, FAIL),
        (0.03, None, UNSHOWN),
    ],
)
def test_an_ece_above_one_percent_fails_unless_chance_explains_it(ece, by_chance, verdict):
    assert verdicts(calibration_lines(Calibration(ece, by_chance)))["calibration"] is verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, PASS),
        ({"ratio": 1.1, "ratio_high": 1.11}, PASS),
        ({"ratio": 1.2, "ratio_high": 1.25}, FAIL),
        ({"ratio": 0.8, "ratio_high": 0.85}, FAIL),
        ({"ratio": 1.2, "ratio_high": 1.5}, UNSHOWN),  # chance explains it
        ({"ratio": 1.2, "ratio_high": 1.25, "conversions": 199}, UNSHOWN),
        ({"ratio": None, "ratio_high": None}, UNSHOWN),
    ],
)
def test_predicted_over_observed_has_to_be_near_one_where_there_are_200_conversions(change, verdict):
    lines = calibration_lines(Calibration(0.0, 0.0, (replace(CELL, **change),)))
    assert verdicts(lines)["calibration by offer"] is verdict


def test_of_many_true_cells_none_fails_for_being_the_worst():
    """One that is significant alone is not among thirty."""
    odd = replace(CELL, offer="odd", ratio=1.13, ratio_high=1.13 + 0.11)
    assert verdicts(calibration_lines(Calibration(0.0, 0.0, (odd,))))["calibration by offer"] is FAIL
    cells = (odd, *[replace(CELL, offer=f"o{n}") for n in range(30)])
    assert verdicts(calibration_lines(Calibration(0.0, 0.0, cells)))["calibration by offer"] is UNSHOWN


@pytest.mark.parametrize(
    ("change", "proof", "fails"),
    [
        ({}, True, []),
        ({"lower": 0.0}, True, []),
        ({"lower": -0.0001}, True, ["certainty"]),
        ({"difference": 0.0, "lower": 0.0}, True, ["worth"]),
        ({"difference": 0.0, "lower": -0.003}, False, []),
        ({"lower": -0.004}, False, []),
        ({"lower": -0.0041}, False, ["certainty"]),
        ({"lower": None}, False, ["certainty"]),
        ({"difference": -0.001, "lower": -0.003}, False, ["worth"]),
        ({"difference": -0.02, "lower": -0.04}, True, ["worth", "certainty"]),
        ({"note": "not enough support: 3 matched positives, needs 10"}, False, ["support"]),
    ],
)
def test_the_difference_has_to_lie_above_zero_surely_enough(change, proof, fails):
    lines = evidence_lines(replace(AHEAD, **change), proof=proof)
    assert [line.check for line in refused(lines)] == [f"{name} against the champion m/1" for name in fails]


def test_the_same_choices_everywhere_pass_whatever_the_bound():
    same = replace(AHEAD, difference=0.0, lower=-0.1, differing=0.0)
    (line,) = evidence_lines(same, proof=True)
    assert line.verdict is PASS
    assert "chooses the same on every decision" in line.detail


def test_the_same_value_by_other_choices_is_no_gain():
    lines = evidence_lines(replace(AHEAD, difference=0.0, lower=-0.003), proof=True)
    assert [line.check for line in refused(lines)] == [
        "worth against the champion m/1",
        "certainty against the champion m/1",
    ]


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([Status.WITHIN, Status.OPEN, Status.NOT_SHOWN], PASS),
        ([Status.WITHIN, Status.WORSE], FAIL),
        ([Status.NOT_SHOWN, Status.NOT_SHOWN], UNSHOWN),
        ([], UNSHOWN),
    ],
)
def test_a_segment_that_is_surely_worse_refuses_and_one_with_too_little_data_is_never_called_safe(statuses, verdict):
    segments = [replace(SEGMENT, value=f"v{n}", status=status) for n, status in enumerate(statuses)]
    (line,) = segment_lines(segments, "the champion")
    assert line.verdict is verdict
    if verdict is FAIL:
        assert "market v1" in line.detail
        assert "v0" not in line.detail


def test_force_overrules_evidence_and_never_a_broken_release():
    evidence, broken = Line("worth", FAIL, "less"), Line("schema", FAIL, "moved", forceable=False)
    unseen = Line("shadow", UNSHOWN, "none")
    assert refused([evidence, broken, unseen]) == [evidence, broken]
    assert refused([evidence, broken, unseen], force=True) == [broken]
