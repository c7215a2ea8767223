"""From logged decisions to a registered challenger: label, cross-fit, fit on everything, write down, register."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.domain import Value
from evaluation.values.crossfit import CrossFit, Fitted
from evaluation.values.policy_values import policy_values
from evaluation.values.time_order import time_ordered
from evaluation.values.worth import worth
from models.artifact import Model, record_golden, save
from models.encoding import Encoding
from models.fitting.reference import by_lightgbm
from models.frames import facts_row
from models.predictors import Predictor
from scaling.engines import Engine
from scaling.local import ALONE
from stores.home import Home
from stores.registry import CHALLENGER, Registry
from training.config import Config, read_config
from training.fitting import is_together
from training.prepare import (
    Progress,
    cross_fit,
    description,
    model_name,
    objective,
    prepare,
    silent,
    write_metrics,
)
from training.reporting import publish_report, run_metrics

EVIDENCE = "evidence.json"
GOLDEN_ROWS = 6


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run found; `metrics` is what `metrics.json` holds."""

    model: str
    version: int
    metrics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.metrics


def train(
    home: Home,
    catalog: Catalog,
    *,
    model: str | None = None,
    config: Path | str | None = None,
    seed: int = 0,
    folds: int = 5,
    engine: Engine = ALONE,
    progress: Progress = silent,
) -> TrainResult:
    """Fit a model, judge it against the best single offer, and register it as the challenger.

    A model that can't show a gain, as surely as the gate will ask, stays at λ = 0, unless its config says λ: then it
    stays as it is told, for the gate to judge. Nothing is promoted.
    Raises UserError for a model or config that doesn't exist and for data that can't teach.
    """
    settings, name = read_config(config), model_name(catalog, model)
    dataset, fits = prepare(home, catalog, name, settings, folds=folds, seed=seed, progress=progress, engine=engine)
    table = policy_values(fits)
    predictor, fitted = fits.final()
    shown = worth(table.records, objective(fits.logged))
    if settings.shrinkage is None and fitted.shrinkage and (shown is None or not shown.is_shown):
        fitted = replace(fitted, shrinkage=0.0)
    found = description(catalog, dataset, fits, table, settings, seed)
    ranks = engine.ranks if is_together(engine, settings) else 1
    metrics = {
        "model": name,
        "version": 0,
        "ranks": ranks,
        "shrinkage": fitted.shrinkage,
        "says": verdict(fitted, settings),
        **found,
    }
    again = partial(
        cross_fit, encoding=fits.encoding, config=settings, folds=folds, seed=seed, engine=engine, pairs=False
    )
    held_out = time_ordered(fits, again)
    metrics["time_ordered"] = held_out if isinstance(held_out, str) else held_out.to_json()
    metrics["gains"] = [dict(zip(("shrinkage", "gain", "error"), gain, strict=True)) for gain in fitted.gains]
    made = _model(name, settings, fits, predictor, fitted, metrics)
    version = _register(home, made, metrics)
    metrics["version"] = version
    write_metrics(home.path, metrics)
    publish_report(home, metrics)
    return TrainResult(name, version, metrics)


def verdict(fitted: Fitted, config: Config) -> str:
    """What the shrinkage means, in words."""
    if config.shrinkage is not None:
        return f"The config fixes λ = {fitted.shrinkage:g}: no evidence was asked."
    if fitted.shrinkage == 0.0:
        return (
            "No gain over the best single offer could be shown surely enough, so the model stays at λ = 0: everybody "
            "gets the best single offer that they are eligible for."
        )
    return (
        f"The model goes {fitted.shrinkage:.0%} of the way from the best single offer to full personalisation "
        f"(λ = {fitted.shrinkage:g}), the least that does as well as the best within one standard error."
    )


def _model(
    name: str, config: Config, fits: CrossFit, predictor: Predictor, fitted: Fitted, metrics: dict[str, Any]
) -> Model:
    kept = ("from", "until", "decisions", "users", "conversions", "folds", "seed", "source", "ece")
    made = Model(
        name=name,
        version=0,  # the registry gives the number, and stamps it into the files
        learner=config.learner,
        outcome=fits.logged.primary,
        encoding=fits.encoding,
        means=fitted.means,
        uplift=fits.logged.nothing is not None,
        shrinkage=fitted.shrinkage,
        predictor=predictor,
        calibration=fitted.calibration,
        info={key: metrics[key] for key in kept} | config.to_json(),
    )
    questions = golden_questions(fits.encoding, fits.logged.facts)
    return record_golden(made, questions, by_lightgbm(predictor, fits.encoding))


def golden_questions(encoding: Encoding, facts: pd.DataFrame) -> list[tuple[dict[str, Value], str]]:
    """Questions to check a loaded model with: real values, but each of another user, so that no row is a person."""
    rng = np.random.default_rng(0)
    questions: list[tuple[dict[str, Value], str]] = [({}, encoding.surfaces[0])]
    for number in range(GOLDEN_ROWS):
        picked = rng.integers(0, len(facts), len(encoding.features))
        values: dict[str, Value] = {}
        for spec, row in zip(encoding.features, picked, strict=True):
            values |= {name: v for name, v in facts_row(encoding, facts, int(row)).items() if name == spec.name}
        questions.append((values, encoding.surfaces[number % len(encoding.surfaces)]))
    return questions


def _register(home: Home, made: Model, metrics: dict[str, Any]) -> int:
    files = save(made) | {EVIDENCE: (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode()}
    registry = Registry(home.mlflow_uri, home.artifacts)
    version = registry.register(made.name, files, run_metrics(metrics), _params(metrics), _tags(metrics))
    registry.set_alias(made.name, CHALLENGER, version.version)
    return version.version


def _params(metrics: dict[str, Any]) -> dict[str, Any]:
    kept = ("learner", "calibration", "fixed_shrinkage", "positives", "downsample_negatives", "folds", "seed")
    rises = {f"monotone.{name}": sign for name, sign in metrics["monotone"].items()}
    crosses = {f"crosses.{feature}.{attribute}": True for feature, attribute in metrics["crosses"]}
    return {key: metrics[key] for key in kept} | rises | crosses | metrics["params"]


def _tags(metrics: dict[str, Any]) -> dict[str, str]:
    return {
        "schema_hash": metrics["schema_hash"],
        "data_from": _iso(metrics["from"]),
        "data_until": _iso(metrics["until"]),
        "seed": str(metrics["seed"]),
        "ranks": str(metrics["ranks"]),
        "source": metrics["source"],
        "outcome": metrics["outcome"],
    }


def _iso(at: float) -> str:
    return pd.Timestamp(at, unit="s", tz="UTC").isoformat(timespec="seconds")
