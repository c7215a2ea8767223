"""What an evaluation finds beside the table of policy values, as JSON: segments, calibration, uplift, and controls that
must come out as expected if any of it is to be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np

from evaluation.values.estimators import Estimate, Rows
from evaluation.values.judged import RANDOM, REFERENCE, TRAINED, Judged
from evaluation.values.reliability import CalibrationCell, Reliability, calibration_cells
from evaluation.values.segments import MISSING, segment_differences, segment_labels
from evaluation.values.uplift_curves import uplift_records

EVERYWHERE, MARKET = "(all)", "market"
CONTROL_LEVEL, WIDER = 0.999, 3.2905 / 1.9600
"""Controls are held to wider intervals: of half a dozen, one in four evaluations would have one beyond 95 %."""


def findings(judged: Judged) -> dict[str, Any]:
    """`ece`, `ece_by_chance`, `segments`, `reliability`, `calibration_cells`, `uplift_curves` and `controls`.

    docs/learning.md tells what each means.
    """
    logged = judged.logged
    pairs = (judged.rows(TRAINED, judged.objective), judged.rows(REFERENCE, judged.objective))
    learner = Reliability.of_folds(judged.q_shown, logged.conversion, logged.user, judged.fits.fold)
    served = Reliability.of_folds(judged.p_shown, logged.conversion, logged.user, judged.fits.fold)
    curves = uplift_records(judged)
    return {
        "ece": learner.ece,
        "ece_by_chance": learner.ece_by_chance,
        "ece_served": served.ece,
        "segments": [one.to_json() for one in segment_differences(*pairs, segment_labels(logged))],
        "reliability": {"learner": reliability_json(learner), "served": reliability_json(served)},
        "calibration_cells": [one.to_json() for one in cells(judged)],
        "uplift_curves": curves,
        "controls": controls(judged, curves),
    }


def cells(judged: Judged) -> tuple[CalibrationCell, ...]:
    """Calibration of the learner per offer and market; one market where the facts have no such feature."""
    logged = judged.logged
    offer = np.array(logged.arms, object)[logged.action]
    market = np.full(logged.n, EVERYWHERE, object)
    if MARKET in logged.facts.columns:
        column = logged.facts[MARKET]
        market = column.astype(object).where(column.notna(), MISSING).to_numpy()
    return calibration_cells(judged.q_shown, logged.conversion, logged.user, offer, market, judged.fits.fold)


def reliability_json(curve: Reliability) -> dict[str, Any]:
    return {"ece": curve.ece, "ece_by_chance": curve.ece_by_chance, "bins": [asdict(one) for one in curve.bins()]}


def controls(judged: Judged, curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Figures whose truth is known beforehand: `held` says whether their 99.9 % interval covers it.

    Weights average to 1 where the logged probabilities and eligible offers are what really ran. A ranking finds nothing
    where treatments were dealt anew among the decisions.
    """
    found = [_mean_weight(judged, policy) for policy in (RANDOM, REFERENCE, TRAINED)]
    for one in curves:
        if one["note"] is None:
            value, low, high = (one["shuffled"][key] for key in ("value", "low", "high"))
            half = WIDER * (high - low) / 2
            found.append(_control(f"Qini of shuffled treatments: {one['treatment']}", 0.0, value, half))
    return [one for one in found if isfinite(one["high"])]


def _mean_weight(judged: Judged, policy: str) -> dict[str, Any]:
    logged, weight = judged.logged, judged.rows(policy, judged.objective).weight
    ones = np.ones(logged.n)
    mean = Estimate.of(Rows(logged.user, ones, weight, ones, ones), weight, ones)
    return _control(f"mean weight: {policy}", 1.0, mean.value, mean.interval(CONTROL_LEVEL)[1] - mean.value)


def _control(what: str, truth: float, value: float, half: float) -> dict[str, Any]:
    held = abs(value - truth) <= half
    return {"what": what, "truth": truth, "value": value, "low": value - half, "high": value + half, "held": held}
