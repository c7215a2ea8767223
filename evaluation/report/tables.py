"""The tables of a report: every figure that a picture shows, and those that none does."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report.numbers import NOT_SHOWN, digits_of, figure, give_or_take, half, interval, percent
from evaluation.report.page import table
from evaluation.report.words import Metrics, policy_name, records_of
from evaluation.values.judged import REFERENCE, TRAINED
from evaluation.values.reliability import LEAST_CONVERSIONS
from evaluation.values.segments import MARGIN, Status

BESIDE = {"snips": "SNIPS", "ips": "IPS", "dm": "DM", "switch_dr": "Switch-DR", "dros": "DRos"}
LOSSES = {Status.WORSE: "is shown", Status.OPEN: "is open", Status.WITHIN: "is ruled out"}


def value_table(metrics: Metrics, outcome: str) -> str:
    """DR of each policy, the best first."""
    records = sorted(records_of(metrics, outcome).items(), key=lambda item: -(item[1]["value"] or 0.0))
    digits = digits_of([half(row) for _, row in records])
    rows, marks = [], []
    for name, row in records:
        difference = ("reference", "")
        if name != REFERENCE:
            bounds = NOT_SHOWN if row["diff_note"] else interval(row["diff_low"], row["diff_high"], digits, signed=True)
            difference = (figure(row["diff"], digits, signed=True), bounds)
        values = (
            figure(row["value"], digits),
            NOT_SHOWN if row["note"] else interval(row["low"], row["high"], digits),
        )
        why = row["note"] or row["diff_note"] or ""
        rows.append([policy_name(name), *values, *difference, f"{row['ess']:,.0f}", why])
        marks.append("strong" if name in (TRAINED, REFERENCE) else "faint" if row["note"] else "")
    headings = ["policy", "DR value", "95 % interval", "minus best", "95 % interval", "effective n", "support"]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return table(headings, rows, texts=(6,), marks=marks)


def beside_table(metrics: Metrics) -> str:
    """The other estimators' values, for the objective."""
    by_estimator = {name: records_of(metrics, metrics["objective"], name) for name in ("dr", *BESIDE)}
    shown = [name for name in BESIDE if by_estimator[name]]
    digits = digits_of([half(row) for row in by_estimator["dr"].values()])
    rows = [
        [policy_name(one), *(figure(by_estimator[name].get(one, {}).get("value"), digits) for name in ("dr", *shown))]
        for one in by_estimator["dr"]
    ]
    return table(["policy", "DR", *(BESIDE[name] for name in shown)], rows)


def segment_table(shown: Sequence[Mapping[str, Any]]) -> str:
    digits = digits_of([half(one) for one in shown])
    rows = []
    for one in shown:
        share = percent(one["diff"] / abs(one["reference"]), 1, signed=True) if one["reference"] else ""
        difference = [figure(one["diff"], digits, signed=True), interval(one["low"], one["high"], digits, signed=True)]
        loss = [f"{one['p_worse']:.3f}", LOSSES[Status(one["status"])]]
        name = f"{one['feature']}: {one['value']}"
        rows.append([name, f"{one['decisions']:,}", figure(one["reference"], digits), *difference, share, *loss])
    headings = ["segment", "decisions", "best single", "difference", "95 % interval", "share", "p (Holm)"]
    marks = ["strong" if one["status"] == Status.WORSE else "" for one in shown]
    return table([*headings, f"a loss over {percent(MARGIN)}"], rows, texts=(7,), marks=marks)


def thin_table(thin: Sequence[Mapping[str, Any]]) -> str:
    """Segments with too little data."""
    rows = [
        [f"{one['feature']}: {one['value']}", f"{one['decisions']:,}", f"{one['users']:,}", one["note"]] for one in thin
    ]
    return table(["segment", "decisions", "users", "why"], rows, texts=(3,))


def uplift_table(curves: Sequence[Mapping[str, Any]]) -> str:
    """Qini and the gain of those ranked first, each above its row of shuffled treatments."""
    rows = []
    for one in curves:
        name = f"{one['treatment']} against {policy_name(one['control'])}"
        if one["note"] is not None:
            rows.append([name, f"{one['decisions']:,}", *[NOT_SHOWN] * 4, one["note"]])
            continue
        gains = [one[f"uplift_{kind}"] for kind in ("top", "random", "beyond_random")]
        digits, fine = digits_of(map(half, gains)), digits_of([half(one["qini"])])
        told = [give_or_take(one["qini"], fine), *(give_or_take(gain, digits) for gain in gains)]
        rows.append([name, f"{one['decisions']:,}", *told, ""])
        rows.append(["… treatments shuffled", "", give_or_take(one["shuffled"], fine), *[""] * 4])
    top = percent(next((one["top"] for one in curves if one["note"] is None), 0.3))
    headings = ["treatment", "decisions", "Qini", f"first {top} gain", "random order gains", "difference", ""]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return table(headings, rows, texts=(6,), marks=["faint" if row[0].startswith("…") else "" for row in rows])


def reliability_table(bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = [
        [
            f"{name}, bin {place}",
            f"{one['n']:,}",
            percent(one["predicted"], 2),
            percent(one["observed"], 2),
            f"{figure(100 * one['low'], 2)} to {percent(one['high'], 2)}",
        ]
        for name, found in bins.items()
        for place, one in enumerate(found, 1)
    ]
    return table(["curve", "decisions", "predicted", "observed", "95 % interval"], rows)


def judged_cells(metrics: Metrics) -> list[Mapping[str, Any]]:
    """Those with enough conversions, the farthest from a ratio of 1 first."""
    cells = metrics.get("calibration_cells") or ()
    enough = [one for one in cells if one["conversions"] >= LEAST_CONVERSIONS and one["ratio"] is not None]
    return sorted(enough, key=lambda one: -abs(one["ratio"] - 1))


def cell_table(cells: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["offer"],
            one["market"],
            f"{one['decisions']:,}",
            f"{one['conversions']:,}",
            percent(one["predicted"], 2),
            percent(one["observed"], 2),
            figure(one["ratio"], 3),
            interval(one["ratio_low"], one["ratio_high"], 3),
            f"{figure(one['ece'])} ({figure(one['ece_by_chance'])})",
        ]
        for one in cells
    ]
    headings = ["offer", "market", "decisions", "conversions", "predicted", "observed", "ratio", "95 % interval"]
    return table([*headings, "ECE (by chance)"], rows, texts=(1,))


def control_table(controls: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in controls:
        digits = digits_of([half(one)])
        found = [figure(one["value"], digits), interval(one["low"], one["high"], digits)]
        rows.append([one["what"], f"{one['truth']:g}", *found, "as it should" if one["held"] else "FAILED"])
    marks = ["" if one["held"] else "strong" for one in controls]
    return table(["control", "truth", "found", "99.9 % interval", ""], rows, texts=(4,), marks=marks)
