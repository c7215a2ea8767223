"""The chart of the README, drawn from benchmarks/results/serving.json: answers a second, each on one core."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHART = Path(__file__).resolve().parents[1] / "docs" / "serving.svg"
OURS, THEIRS, INK = "#0e8a6d", "#8b98a5", "#7d8894"
"""Legible on white and on GitHub's dark page alike."""
NAMES = {
    "segue": "Segue: the whole decision",
    "echo": "FastAPI echo: no decision at all",
    "by_hand": "the same service by hand",
    "feast": "Feast + Booster in FastAPI",
    "feast_async": "Feast's alpha asyncio API + Booster",
    "mlserver": "MLServer, scoring alone",
    "bentoml": "BentoML, scoring alone",
    "bentoml_on_loop": "BentoML, scoring without threads",
    "ray_serve": "Ray Serve, scoring alone",
    "mlflow_tensor": "mlflow models serve, scoring an array",
    "mlflow": "mlflow models serve, scoring a data frame",
}


def rates(found: Mapping[str, Any]) -> dict[str, float]:
    """Answers a second by server, as far as they are measured; the fastest first."""
    told = {**found.get("servers", {}), **found.get("peers", {})}
    known = {name: told[name]["per_second"]["median"] for name in NAMES if name in told}
    return dict(sorted(known.items(), key=lambda one: -one[1]))


def draw(results: Path, chart: Path = CHART) -> None:
    """Writes the chart. Without figures for Segue there is nothing to draw, and the old one stays."""
    found = json.loads(results.read_text()) if results.is_file() else {}
    known = rates(found)
    if "segue" not in known:
        return
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "segue", "svg.fonttype": "path", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 0.34 * len(known) + 0.7))
    places = range(len(known))[::-1]
    colors = [OURS if name == "segue" else THEIRS for name in known]
    axes.barh(places, known.values(), color=colors, height=0.62)
    for place, (name, rate) in zip(places, known.items(), strict=True):
        axes.text(rate, place, f" {rate:,.0f}", va="center", color=OURS if name == "segue" else INK)
    axes.set_yticks(places, [NAMES[name] for name in known], color=INK)
    axes.get_yticklabels()[list(known).index("segue")].set_color(OURS)
    axes.set_xticks([])
    axes.set_xlim(0, max(known.values()) * 1.12)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("answers a second on one core, 16 connections", loc="left", color=INK, fontsize=10)
    figure.tight_layout()
    figure.savefig(chart, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
