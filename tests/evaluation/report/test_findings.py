import json
import math

import numpy as np
import pandas as pd
import pytest

from decisioning.domain import NOTHING
from evaluation.labels.labels import label
from evaluation.report.findings import EVERYWHERE, findings
from evaluation.values.crossfit import CrossFit
from evaluation.values.judged import judge
from models.encoding import Encoding
from models.learners import fit


def found(tables, catalog, learner="logistic"):
    logged = label(tables, catalog, "m")
    arms = [arm for arm in logged.arms if arm != NOTHING or logged.nothing is not None]
    encoding = Encoding.of(catalog, logged.surfaces, arms)
    return findings(judge(CrossFit(logged, encoding, lambda sample: fit(learner, encoding, sample, {}, 0))))


@pytest.fixture(scope="module")
def marketed(trial):
    tables = trial(n=8000)
    tables.facts["market"] = pd.array(np.where(np.arange(8000) % 4 < 3, "de", "us"), dtype="string")
    return tables


def test_markets_are_compared_and_calibrated(marketed, make_catalog):
    evidence = found(marketed, make_catalog())
    assert [(one["value"], one["status"]) for one in evidence["segments"]] == [
        ("de", "within the margin"), ("us", "within the margin"),
    ]  # fmt: skip
    assert [(one["offer"], one["market"]) for one in evidence["calibration_cells"]] == [
        ("a", "de"), ("a", "us"), ("b", "de"), ("b", "us"),
    ]  # fmt: skip
    assert sum(one["decisions"] for one in evidence["calibration_cells"]) == 8000
    assert evidence["ece"] == evidence["reliability"]["learner"]["ece"] < 2 * evidence["ece_by_chance"]


def test_without_a_market_there_is_one(trial, make_catalog):
    evidence = found(trial(), make_catalog())
    assert {one["market"] for one in evidence["calibration_cells"]} == {EVERYWHERE}
    assert evidence["segments"] == []


def test_controls_hold_in_a_sound_log_and_fail_where_probabilities_are_wrong(trial, make_catalog):
    tables = trial(n=12_000, arms=("a", "b", NOTHING))
    sound = found(tables, make_catalog())["controls"]
    assert {one["what"].partition(":")[0] for one in sound} == {"mean weight", "Qini of shuffled treatments"}
    assert all(one["held"] for one in sound)
    tables.decisions["probability"] = np.where(tables.decisions["offer"] == "a", 0.4, 0.3)
    wrong = {one["what"]: one["held"] for one in found(tables, make_catalog())["controls"]}
    assert not wrong["mean weight: best_single_offer"]


@pytest.mark.parametrize(
    "case", ["one arm", "few users", "no conversions in a market", "constant predictions", "a handful"]
)
def test_every_figure_is_json_and_every_interval_has_width(trial, make_catalog, case):
    tables, learner = trial(n=1500, users=6 if case == "few users" else None), "logistic"
    n = 60 if case == "a handful" else 1500
    tables.facts["market"] = pd.array(np.where(np.arange(1500) % 2, "de", "us"), dtype="string")
    if case == "one arm":
        tables.decisions["offer"] = pd.array(["a"] * n, dtype="string")
        tables.decisions["probability"] = 1.0
    if case == "no conversions in a market":
        bought = tables.outcomes["decision_id"].str[1:].astype(int)
        tables.outcomes.drop(tables.outcomes.index[bought % 2 == 1], inplace=True)
    if case == "a handful":
        tables.outcomes.drop(
            tables.outcomes.index[tables.outcomes["decision_id"].str[1:].astype(int) >= n], inplace=True
        )
        for table in (tables.decisions, tables.facts):
            table.drop(table.index[n:], inplace=True)
    if case == "constant predictions":
        learner = "constant"
    evidence = found(tables, make_catalog(), learner)
    json.dumps(evidence, allow_nan=False)
    for low, high in intervals(evidence):
        assert math.isfinite(low)
        assert math.isfinite(high)
        assert low < high


def intervals(found):
    if isinstance(found, dict):
        for low in [key for key in found if key.endswith("low") or key.endswith("low_all")]:
            if found[low] is not None:
                yield found[low], found[low.replace("low", "high")]
    if isinstance(found, dict | list):
        for one in found.values() if isinstance(found, dict) else found:
            yield from intervals(one)
