"""The table of policy values again, for a version that is registered already, on the data of today."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from evaluation.values.policy_values import policy_values
from models import artifact
from scaling.engines import Engine
from scaling.local import ALONE
from stores.home import Home
from stores.registry import CHALLENGER, CHAMPION, Registry
from training.config import config_of
from training.prepare import Progress, description, model_name, prepare, silent, write_metrics
from training.reporting import publish_report


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found; `metrics` is what `metrics.json` holds, `report` the page that tells it."""

    metrics: dict[str, Any]
    report: Path

    def to_json(self) -> dict[str, Any]:
        return self.metrics


def evaluate(
    home: Home,
    catalog: Catalog,
    *,
    model: str | None = None,
    version: int | str | None = None,
    seed: int | None = None,
    folds: int = 5,
    report: Path | None = None,
    engine: Engine = ALONE,
    progress: Progress = silent,
) -> Evaluation:
    """Judge a version's procedure of training, cross-fitted: never the fit itself, which has seen these users.

    Its learner and parameters, with λ chosen anew inside each training part: the version's own λ has seen these users.

    `version` is a number or an alias; without one, the challenger, else the champion. `seed` draws the folds; without
    one, those of its training: on the same data the same table comes out. What is found goes into `metrics.json`, into
    the page `report` (default: `report.html` in the work folder) and into the version's run in MLflow. Raises UserError
    where there is no such version, and for data that can't be learned from.
    """
    name = model_name(catalog, model)
    registry = Registry(home.mlflow_uri, home.artifacts)
    number = version_number(registry, name, version)
    found = artifact.load(registry.files(name, number))
    seed = int(found.info.get("seed", 0)) if seed is None else seed
    config = config_of(found)
    dataset, fits = prepare(home, catalog, name, config, folds=folds, seed=seed, progress=progress, engine=engine)
    table = policy_values(fits)
    metrics = {"model": name, "version": number, "shrinkage": found.shrinkage}
    metrics |= description(catalog, dataset, fits, table, config, seed)
    write_metrics(home.path, metrics)
    return Evaluation(metrics, publish_report(home, metrics, report))


def version_number(registry: Registry, name: str, version: int | str | None) -> int:
    """The number of a version given as number, text or alias. Raises UserError where there is none."""
    if version is None:
        found = registry.alias(name, CHALLENGER) or registry.alias(name, CHAMPION)
        if found is None:
            raise UserError(f"The registry has no version of the model {name} yet: run `segue train`.")
        return found.version
    if str(version).isdecimal():
        return registry.version(name, int(version)).version
    found = registry.alias(name, str(version))
    if found is None:
        raise UserError(f"Model {name} has no version called {version!r}: give a number, or champion or challenger.")
    return found.version
