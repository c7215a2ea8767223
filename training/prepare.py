"""What training and evaluation begin with: the model's name, its logged decisions, and the folds to fit on."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from decisioning.catalog import Catalog
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from evaluation.labels.labels import Logged, label
from evaluation.labels.log_sums import check_probabilities
from evaluation.report.findings import findings
from evaluation.values.crossfit import CrossFit
from evaluation.values.policy_values import Table
from models.encoding import Encoding
from scaling.engines import Engine
from scaling.local import ALONE
from stores.home import Home
from stores.tables import Tables
from training.config import Config
from training.fitting import Fitting, fit_all_on

Dataset = Mapping[str, Any]
Progress = Callable[[int, int], object]
"""Called as work goes on, with how much is done and how much there is."""


def silent(done: int, total: int) -> None:
    """The progress of nobody watching."""


def model_name(catalog: Catalog, wanted: str | None) -> str:
    """The model asked for, or the only one that the catalog names. Raises UserError where that is not clear."""
    known = ", ".join(catalog.models) or "none: give offers a `score: {model: …}`"
    if wanted is None and len(catalog.models) == 1:
        return catalog.models[0]
    if wanted is None:
        raise UserError(f"Say which model with --model. The catalog names: {known}.")
    if wanted not in catalog.models:
        raise UserError(f"No offer of the catalog asks for the model {wanted}. It names: {known}.")
    return wanted


def prepare(
    home: Home,
    catalog: Catalog,
    name: str,
    config: Config,
    *,
    folds: int,
    seed: int,
    progress: Progress,
    engine: Engine = ALONE,
) -> tuple[Dataset, CrossFit]:
    """What the dataset says of itself, and the folds. Raises UserError for data that nothing can be learned from."""
    dataset, logged, encoding = gather(home, catalog, name, config, folds)
    return dataset, cross_fit(logged, encoding, config, folds=folds, seed=seed, progress=progress, engine=engine)


def gather(home: Home, catalog: Catalog, name: str, config: Config, folds: int) -> tuple[Dataset, Logged, Encoding]:
    """The labelled tables, and how a model sees them. Raises UserError for data that can't teach.

    The tables themselves are let go: at a million decisions their texts alone take most of a gigabyte.
    """
    tables = Tables.read(home.data)
    logged = label(tables, catalog, name, fresh=config.positives == "delay_weighted")
    _check_learnable(logged, folds)
    offers = [offer.name for offer in catalog.offers.values() if offer.score.model == name]
    seen = [*offers, NOTHING] if logged.nothing is not None else offers
    return tables.dataset, logged, Encoding.of(catalog, logged.surfaces, seen, config.crosses)


def cross_fit(
    logged: Logged,
    encoding: Encoding,
    config: Config,
    *,
    folds: int,
    seed: int,
    progress: Progress = silent,
    engine: Engine = ALONE,
    pairs: bool = True,
) -> CrossFit:
    """The folds of a seed. In this process, nothing is fitted until it is asked for; another engine fits it all now.

    Without `pairs`, it is not asked for more than `CrossFit.final` takes.
    """
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, fits.fits)

    fitting = Fitting(config, encoding, seed)
    fits = CrossFit(
        logged,
        encoding,
        fitting,
        folds=folds,
        seed=seed,
        calibration=config.calibration,
        shrinkage=config.shrinkage,
        progress=step,
    )
    progress(0, fits.fits)
    if engine != ALONE:
        fits.fit_ahead(fit_all_on(engine, fitting), pairs=pairs)
    return fits


def _check_learnable(logged: Logged, folds: int) -> None:
    conversions = int(logged.conversion.sum())
    if conversions == 0:
        raise UserError(
            f"There are no conversions: none of {logged.n:,} matured decisions was followed by {logged.primary!r} "
            "within its window. Check `converts_on` and `within` of the groups against the outcomes' types."
        )
    if conversions == logged.n:
        raise UserError(f"Every one of {logged.n:,} matured decisions converted: there is nothing to tell apart.")
    users = int(logged.user.max()) + 1
    if not 2 < folds <= users:
        raise UserError(f"{folds} folds can't be made of {users:,} users: it takes 3 folds or more, and more users.")
    check_probabilities(logged)


def quality(logged: Logged, table: Table) -> dict[str, float]:
    """How well cross-fitted probabilities of what was shown fit what followed.

    They are the learner's own, calibrated.
    """
    p, seen = np.clip(table.q_shown, 1e-9, 1 - 1e-9), logged.conversion
    return {
        "log_loss": float(log_loss(seen, p)),
        "brier": float(((p - seen) ** 2).mean()),
        "auc": float(roc_auc_score(seen, p)),
    }


def description(
    catalog: Catalog, dataset: Dataset, fits: CrossFit, table: Table, config: Config, seed: int
) -> dict[str, Any]:
    """The figures that `train` and `evaluate` share."""
    logged = fits.logged
    return {
        **config.to_json(),
        "outcome": logged.primary,
        "objective": objective(logged),
        "decisions": logged.n,
        "immature": logged.immature,
        "learned_open": 0 if logged.fresh is None else len(logged.fresh.action),
        "without_choice": logged.without_choice,
        "retired": [arm for arm, gone in zip(logged.arms, logged.retired, strict=True) if gone],
        "users": int(logged.user.max()) + 1,
        "conversions": int(logged.conversion.sum()),
        "from": logged.start,
        "until": logged.end,
        "folds": fits.folds,
        "seed": seed,
        "schema_hash": fits.encoding.hash,
        "source": str(dataset.get("source", "unknown")),
        "uplift": logged.nothing is not None,
        "terms": terms(catalog, logged.arms),
        **quality(logged, table),
        **findings(table.judged),
        "fold_shrinkages": list(table.shrinkages),
        "policy_values": table.records,
    }


def terms(catalog: Catalog, offers: Collection[str]) -> dict[str, list[Any]]:
    """By offer, what its evidence hangs on beside the log: net value, priority, what converts it, and for how long."""
    found = {}
    for name, offer in sorted(catalog.offers.items()):
        if name not in offers:
            continue
        group = catalog.group(offer.group)
        found[name] = [offer.score.net, offer.priority, str(group.converts_on), group.within]
    return found


def objective(logged: Logged) -> str:
    """The outcome that policies are trained for: net value where offers differ in it, else the conversion."""
    return "net_value" if "net_value" in logged.outcomes else logged.primary


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Put `metrics.json` into the work folder, all of it or nothing."""
    draft = folder / ".metrics.json.tmp"
    draft.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    draft.replace(folder / "metrics.json")
