"""The pictures of a report, each from the figures of `metrics.json` alone; one that has nothing to show is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from evaluation.report.findings import EVERYWHERE
from evaluation.report.numbers import percent
from evaluation.report.page import BLUE, GREEN, GREY, INK, ORANGE, RED, drawn, short, svg
from evaluation.report.words import Metrics, outcome_name, policy_name, records_of
from evaluation.values.judged import REFERENCE, TRAINED
from evaluation.values.reliability import LEAST_CONVERSIONS
from evaluation.values.segments import MARGIN, Status

MOST_CELLS, MOST_CURVES = 40, 4
STATUS_MARKS = {Status.WORSE: (RED, "X"), Status.OPEN: (ORANGE, "o"), Status.WITHIN: (BLUE, "D")}
STATUS_WORDS = {
    Status.WORSE: f"worse by more than {percent(MARGIN)}",
    Status.OPEN: f"a loss of {percent(MARGIN)} is open",
    Status.WITHIN: f"a loss of {percent(MARGIN)} is ruled out",
}


def figures(metrics: Metrics) -> dict[str, str]:
    """By name, SVG elements: policy_values, segments, reliability, calibration, uplift."""
    with rc_context({"text.parse_math": False}):  # a `$` in a name starts no formula
        drawings = {
            "policy_values": _policy_values(metrics),
            "segments": _segments(metrics),
            "reliability": _reliability(metrics),
            "calibration": _calibration(metrics),
            "uplift": _uplift(metrics),
        }
    return {name: drawing for name, drawing in drawings.items() if drawing is not None}


def _policy_values(metrics: Metrics) -> str | None:
    rows = records_of(metrics, metrics["objective"])
    bounded = [row for row in rows.values() if row["low"] is not None]
    if not bounded:
        return None
    told = [row for row in rows.values() if row["low"] is None and row["note"]]  # beneath: marked, and no line
    shown = [*told, *sorted(bounded, key=lambda row: row["value"])]
    figure = drawn(9.5, 1.3 + 0.36 * len(shown))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(shown):
        colour, mark = _policy_mark(row)
        if row["note"]:
            _unsupported(left, place)
        else:
            _bar(left, place, row["value"], row["low"], row["high"], colour, mark)
        if row["diff_note"]:
            _unsupported(right, place)
        elif row["diff_low"] is not None:
            _bar(right, place, row["diff"], row["diff_low"], row["diff_high"], colour, mark)
        elif row["policy"] == REFERENCE:
            right.plot([0], [place], mark, color=colour, markersize=7)
    best = rows.get(REFERENCE)
    if best is not None and not best["note"]:
        left.axvline(best["value"], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    right.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    left.set_yticks(range(len(shown)), [short(policy_name(row["policy"])) for row in shown])
    what = short(outcome_name(metrics["objective"]))
    _dressed(left, f"{what} per decision", "Value (DR)")
    _dressed(right, f"{what} per decision, minus best single offer", "Paired difference (DR)")
    left.set_ylim(-0.6, len(shown) - 0.4)
    return svg(figure, "policy_values", f"Value of each policy in {what} per decision, with 95 % intervals")


def _policy_mark(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["policy"] == TRAINED:
        return BLUE, "D"
    if row["policy"] == REFERENCE:
        return INK, "s"
    return GREY, "o"


def _segments(metrics: Metrics) -> str | None:
    found = [one for one in metrics.get("segments", ()) if one["status"] != Status.NOT_SHOWN]
    if not found:
        return None
    in_shares = all(one["reference"] > 0 for one in found)
    lines = _forest_lines(found)
    figure = drawn(9.5, 1.5 + 0.3 * len(lines))
    axes = figure.subplots()
    for place, (_, one) in enumerate(lines):
        if one is not None:
            scale = 100 / one["reference"] if in_shares else 1.0
            colour, mark = STATUS_MARKS[Status(one["status"])]
            axes.hlines(place, one["low_all"] * scale, one["high_all"] * scale, color=colour, linewidth=1, alpha=0.6)
            _bar(axes, place, one["diff"] * scale, one["low"] * scale, one["high"] * scale, colour, mark)
    axes.axvline(0, color=INK, linewidth=0.8)
    if in_shares:
        axes.axvline(-100 * MARGIN, color=RED, linewidth=1, linestyle=(0, (4, 3)), label=f"margin: −{percent(MARGIN)}")
    for status, (colour, mark) in STATUS_MARKS.items():
        if any(one["status"] == status for one in found):
            axes.plot([], [], mark, color=colour, label=STATUS_WORDS[status])
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])
    for tick, (_, one) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if one is None else "normal")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    what = short(outcome_name(metrics["objective"]))
    unit = f"% of the best single offer's {what} there" if in_shares else f"{what} per decision"
    _dressed(axes, f"trained policy minus best single offer, {unit}", None)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=8.5)
    return svg(figure, "segments", "Difference to the best single offer in each segment, with 95 % intervals")


def _forest_lines(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Segments under the name of their feature."""
    lines: list[tuple[str, Mapping[str, Any] | None]] = []
    for feature in dict.fromkeys(one["feature"] for one in found):
        lines.append((short(feature), None))
        lines += [(short(one["value"], 28), one) for one in found if one["feature"] == feature]
    return lines


def _reliability(metrics: Metrics) -> str | None:
    curves = metrics.get("reliability") or {}
    titles = {"learner": "The learner's own probabilities", "served": "As served, shrunk by λ"}
    shown = [(title, curves[name]["bins"]) for name, title in titles.items() if curves.get(name, {}).get("bins")]
    if not shown:
        return None
    most = 100 * max(max(one["high"], one["predicted"]) for _, bins in shown for one in bins) * 1.04
    figure = drawn(9.5, 4.6)
    for axes, (title, bins) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.plot([0, most], [0, most], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="as predicted")
        x, y = ([100 * one[key] for one in bins] for key in ("predicted", "observed"))
        below, above = [], []
        for one in bins:
            below.append(100 * (one["observed"] - one["low"]))
            above.append(100 * (one["high"] - one["observed"]))
        style = {"color": BLUE, "linewidth": 1, "elinewidth": 1.6, "markersize": 5}
        axes.errorbar(x, y, [below, above], fmt="o-", label="observed, 95 %", **style)
        axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
        axes.set_ylabel("observed, % of decisions")
        _dressed(axes, "predicted, % of decisions", title)
        axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    return svg(figure, "reliability", "Predicted against observed conversion rates in bins of equal size")


def _calibration(metrics: Metrics) -> str | None:
    cells = [
        one
        for one in metrics.get("calibration_cells", ())
        if one["conversions"] >= LEAST_CONVERSIONS and one["ratio_low"] is not None
    ]
    cells = sorted(cells, key=lambda one: -abs(one["ratio"] - 1))[:MOST_CELLS]
    if not cells:
        return None
    figure = drawn(9.5, 1.3 + 0.3 * len(cells))
    axes = figure.subplots()
    axes.axvspan(0.9, 1.1, color=GREEN, alpha=0.12, linewidth=0, label="asked: 0.9 to 1.1")
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for place, one in enumerate(cells):
        inside = 0.9 <= one["ratio"] <= 1.1
        colour, mark = (BLUE, "o") if inside else (RED, "X")
        _bar(axes, place, one["ratio"], one["ratio_low"], one["ratio_high"], colour, mark)
    axes.set_yticks(range(len(cells)), [_cell_name(one) for one in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    _dressed(axes, "predicted ÷ observed conversions", None)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8.5)
    return svg(figure, "calibration", "Predicted over observed conversions per offer and market, with 95 % intervals")


def _cell_name(cell: Mapping[str, Any]) -> str:
    if cell["market"] == EVERYWHERE:
        return short(cell["offer"])
    return f"{short(cell['offer'], 28)} · {short(cell['market'], 10)}"


def _uplift(metrics: Metrics) -> str | None:
    curves = [one for one in metrics.get("uplift_curves", ()) if one["note"] is None][:MOST_CURVES]
    if not curves:
        return None
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure = drawn(9.5, 3.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(curves) :]:
        axes.remove()
    for axes, curve in zip(grid.flat, curves, strict=False):
        _curve(axes, curve, short(outcome_name(curve["outcome"])))
    return svg(figure, "uplift", "Gain by the share of decisions treated, ranked by the model and in random order")


def _curve(axes: Axes, curve: Mapping[str, Any], what: str) -> None:
    points = curve["points"]
    x = [0.0, *(100 * one["share"] for one in points)]
    low, value, high = ([0.0, *(one[key] for one in points)] for key in ("low", "value", "high"))
    axes.fill_between(x, low, high, color=BLUE, alpha=0.16, linewidth=0)
    axes.plot(x, value, color=BLUE, linewidth=1.8, label="ranked by the model, 95 %")
    axes.plot([0, 100], [0, value[-1]], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="random order")
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(100 * curve["top"], color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 100)
    axes.set_ylabel(f"gain in {what} per decision")
    title = f"{short(curve['treatment'], 26)} against {short(policy_name(curve['control']), 24)}"
    _dressed(axes, "treated, % of decisions", title)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")


def _bar(axes: Axes, place: float, value: float, low: float, high: float, colour: str, mark: str) -> None:
    axes.hlines(place, low, high, color=colour, linewidth=2.4)
    axes.plot([value], [place], mark, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.8)


def _unsupported(axes: Axes, place: float) -> None:
    """Words instead of a line, which would look the surest of all where the log knows least."""
    said: dict[str, Any] = {"color": GREY, "fontsize": 8.5, "ha": "center", "va": "center", "backgroundcolor": "white"}
    axes.text(0.5, place, "not shown: not enough support", transform=axes.get_yaxis_transform(), **said)


def _dressed(axes: Axes, below: str, title: str | None) -> None:
    axes.set_xlabel(below, fontsize=9.5)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
