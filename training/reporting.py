"""Where what was found goes for people: a page in the work folder, and the same in the version's run in MLflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decisioning.errors import UserError
from evaluation.report.figures import figures
from evaluation.report.html import report
from evaluation.values.judged import TRAINED
from evaluation.values.segments import Status
from stores.home import Home
from stores.registry import Registry

PAGE, FOLDER = "report.html", "report"
ALONE = ("ece", "ece_by_chance", "ece_served", "log_loss", "brier", "auc", "shrinkage", "decisions", "conversions")


def publish_report(home: Home, metrics: Mapping[str, Any], file: Path | None = None) -> Path:
    """Draw `metrics`, as `metrics.json` holds them, into a page, and attach page and pictures to the version's run.

    The page goes to `file`, or to `report.html` in the work folder. Raises UserError where it can't be written, and for
    a registry out of reach; the page is there by then.
    """
    drawings = figures(metrics)
    page = report(metrics, drawings).encode()
    path = write_page(file or home.path / PAGE, page)
    files = {PAGE: page} | {f"{name}.svg": drawing.encode() for name, drawing in drawings.items()}
    registry = Registry(home.mlflow_uri, home.artifacts)
    registry.attach(metrics["model"], metrics["version"], FOLDER, files, run_metrics(metrics))
    return path


def write_page(path: Path, page: bytes) -> Path:
    """All of it or nothing. Raises UserError where that can't be done."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.write_bytes(page)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"The report can't be written to {path}: {error.strerror}.") from None
    return path


def run_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures that stand on a run, by names that MLflow takes; what is not shown is left out."""
    found = {key: metrics.get(key) for key in ALONE}
    for record in metrics["policy_values"]:
        if record["estimator"] == "dr" and ":" not in record["policy"]:
            key = f"{record['outcome']}.{record['policy']}"
            found[f"{key}.value"] = record["value"]
            if record["policy"] == TRAINED:
                found |= {f"{key}.{part}": record[part] for part in ("diff", "diff_low", "diff_high")}
    for curve in metrics.get("uplift_curves", ())[:1]:
        if curve["note"] is None:
            found |= {f"qini.{part}": curve["qini"][part] for part in ("value", "low", "high")}
            found |= {f"uplift_30.{kind}": curve[f"uplift_{kind}"]["value"] for kind in ("top", "random")}
    for status in (Status.WORSE, Status.NOT_SHOWN):
        many = sum(one["status"] == status for one in metrics.get("segments", ()))
        found[f"segments.{status.replace(' ', '_')}"] = many
    found["controls.failed"] = sum(not one["held"] for one in metrics.get("controls", ()))
    return {key: float(value) for key, value in found.items() if value is not None}
