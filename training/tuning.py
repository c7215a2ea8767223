"""A search for a learner's parameters, on the earlier decisions; the later ones say what it is worth."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from evaluation.labels.logged import Logged
from evaluation.values.crossfit import clustered_error
from scaling.engines import Engine
from scaling.local import ALONE
from scaling.search import Search, Space, Trials
from stores.home import Home
from stores.registry import Registry
from training.config import CONFIGS, Config, read_config, to_toml
from training.held_out import Searched, cross_fitted, scored, unseen
from training.prepare import Progress, gather, model_name, silent

SHARE = 0.7
"""Of the decisions, in order of time, that the search may see."""
LATER, OTHERS = "later decisions", "other users"
TRIALS = "trials.json"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean log loss of the config as it was and as it was found, paired; clustered by user."""

    decisions: int
    before: float
    after: float
    gain: float
    """How much smaller the loss became."""
    error: float
    """The standard error of that."""

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, user: np.ndarray) -> "Comparison":
        gain = before - after
        means = (float(found.mean()) for found in (before, after, gain))
        return cls(len(gain), *means, clustered_error(gain, user))

    @property
    def is_shown(self) -> bool:
        """Whether it is more than luck: beyond one standard error, as λ is chosen."""
        return self.gain > self.error

    def to_json(self) -> dict[str, Any]:
        half = 1.96 * self.error
        return {**asdict(self), "low": self.gain - half, "high": self.gain + half}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found. `config` is the file that `segue train --config` takes."""

    found: dict[str, Any]
    config: Path

    def to_json(self) -> dict[str, Any]:
        return {**self.found, "config": str(self.config)}


def tune(
    home: Home,
    catalog: Catalog,
    *,
    model: str | None = None,
    config: Path | str | None = None,
    trials: int = 30,
    minutes: float | None = None,
    seed: int = 0,
    folds: int = 3,
    out: Path | None = None,
    engine: Engine = ALONE,
    progress: Progress = silent,
) -> Tuning:
    """Search for parameters with less cross-fitted log loss on the first part of the data; judge them on the rest.

    What is found is written only where it is better by more than one standard error; else the config stays as it is.
    Both are then fitted on the first part and judged on the rest, which had no say: that is the figure to believe.
    Raises UserError for a config without a search space, and for data that can't teach.
    """
    settings, name = read_config(config), model_name(catalog, model)
    if trials < 2:
        raise UserError(f"--trials {trials} compares nothing: the first one is the config as it is. Give 2 or more.")
    settings = replace(settings, search=_space(settings))
    _, logged, encoding = gather(home, catalog, name, settings, folds)
    first, rest, how = halves(logged, seed)
    part, users = scored(logged.take(first), encoding, folds, seed)
    task = Searched(settings, encoding, part, seed)
    own = {key: settings.params[key] for key in settings.search}
    asked = Search(settings.search, own, trials, inf if minutes is None else minutes * 60, seed)
    done = engine.search(task, asked, progress)
    best = _best(done)
    searched = Comparison.of(*(cross_fitted(task.fitting(params), part) for params in (own, best)), users)
    chosen = replace(settings, params={**settings.params, **(best if searched.is_shown else {})})
    held, held_users = scored(logged.take(rest), encoding, folds, seed)
    later = Comparison.of(*(unseen(task.fitting(params), part, held.lessons) for params in (own, best)), held_users)
    found = {
        "model": name, "learner": settings.learner, "seed": seed, "folds": folds, "trials": len(done.trials),
        "stopped": done.stopped, "before": own, "best": dict(best), "is_better": searched.is_shown,
        "searched_on": searched.to_json(), "held_out": {"how": how, **later.to_json()},
        "table": [asdict(one) for one in done.trials],
    }  # fmt: skip
    path = _write(out or home.path / f"{name}-tuned.toml", to_toml(chosen, _heading(found)))
    _record(home, found, path)
    return Tuning(found, path)


def halves(logged: Logged, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Indices of the decisions to search on, and of those to judge by: later ones, where time tells them apart.

    Where it doesn't, those of other users. Raises UserError where either part has conversions of one kind only.
    """
    first = rest = np.zeros(0, np.intp)
    how = LATER
    if logged.at is not None and logged.closed is not None:
        cut = np.quantile(logged.at, SHARE)
        first, rest = np.flatnonzero(logged.closed <= cut), np.flatnonzero(logged.at > cut)
    if min(len(first), len(rest)) < (1 - SHARE) / 2 * logged.n:
        ours = np.random.default_rng(seed).random(int(logged.user.max()) + 1)[logged.user] < SHARE
        first, rest, how = np.flatnonzero(ours), np.flatnonzero(~ours), OTHERS
    for rows in (first, rest):
        if len(np.unique(logged.conversion[rows])) < 2:
            raise UserError("There are too few conversions to search on a part of the decisions and judge on the rest.")
    return first, rest, how


def _space(settings: Config) -> Space:
    """That of the config, or of the one that comes with its learner."""
    if settings.search:
        return settings.search
    own = CONFIGS / f"{settings.learner}.toml"
    found = read_config(own).search if own.is_file() else {}
    if not found:
        raise UserError(f"There is nothing to search for: say what in a [search] table ({settings.learner} has none).")
    for key, dimension in found.items():
        if settings.params[key] not in dimension:
            raise UserError(
                f"The config has {key} = {settings.params[key]!r}, outside of the search that comes with the "
                f"{settings.learner}: give the config a [search] of its own."
            )
    return found


def _best(done: Trials) -> Mapping[str, Any]:
    """Raises UserError where not even the config as it is could be tried."""
    if not done.trials:
        raise UserError("The search was stopped before its first trial ended: nothing was found, and nothing written.")
    if done.trials[0].loss is None:
        raise UserError(f"The config as it is can't be fitted: {done.trials[0].refused}")
    return done.best.params


def _heading(found: Mapping[str, Any]) -> str:
    later = found["held_out"]
    better = "better than before by more than one standard error" if found["is_better"] else "none surely better"
    return (
        f"Of {found['trials']} trials by `segue tune --seed {found['seed']}`: {better}.\n"
        f"Log loss on {later['decisions']:,} {later['how']} that the search did not see: {later['before']:.5f} before, "
        f"{later['after']:.5f} with the best trial."
    )


def _write(path: Path, text: str) -> Path:
    """All of it or nothing."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"The config can't be written to {path}: {error.strerror}.") from None
    return path


def _record(home: Home, found: Mapping[str, Any], path: Path) -> None:
    """A run in MLflow: the best parameters, both comparisons, and the table of trials with the config as files."""
    files = {TRIALS: (json.dumps(found, indent=1) + "\n").encode(), path.name: path.read_bytes()}
    metrics = {
        f"{part}.{key}": found[part][key] for part in ("searched_on", "held_out") for key in ("before", "after", "gain")
    }
    params = {"learner": found["learner"], "seed": found["seed"], "trials": found["trials"], **found["best"]}
    Registry(home.mlflow_uri, home.artifacts).note(f"tune {found['model']}", files, metrics, params)
