"""Search for parameters on Ray, by Ray Tune with Optuna's search: as many trials at once as there are workers."""

import tempfile
import time
import warnings
from collections.abc import Mapping
from math import isfinite
from typing import Any

from ray import tune
from ray.tune import ResultGrid
from ray.tune.search.optuna import OptunaSearch

from scaling.engines import Task
from scaling.optuna_search import INTERRUPTED, TIME, distributions, tried
from scaling.search import Progress, Search, Trial, Trials, Value

LOSS = "loss"


def search(task: Task[Mapping[str, Value], float], asked: Search, workers: int, progress: Progress) -> Trials:
    """As `engines.Engine.search`. What is tried hangs on what has ended by then: two runs may differ."""
    algorithm = OptunaSearch(
        distributions(asked.space), metric=LOSS, mode="min", points_to_evaluate=[dict(asked.first)], seed=asked.seed
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="segue-ray-tune-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner = tune.Tuner(
            tune.with_parameters(_Trial, task=task),
            tune_config=tune.TuneConfig(
                search_alg=algorithm,
                num_samples=asked.trials,
                max_concurrent_trials=workers,
                time_budget_s=asked.seconds if isfinite(asked.seconds) else None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[_Told(progress, asked.trials)]),
        )
        grid = tuner.fit()
    if grid.errors:
        raise grid.errors[0]
    found = _trials(grid)
    if len(found) == asked.trials:
        return Trials(found)
    return Trials(found, TIME if time.monotonic() - began >= asked.seconds else INTERRUPTED)


class _Trial(tune.Trainable):
    """One actor's trials, one after the other: the task is opened once."""

    def setup(self, config: dict[str, Any], task: Task[Mapping[str, Value], float]) -> None:
        self._evaluate, self._params = task(), config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._params = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}  # Tune asks for one; a trial is one step, and nothing of it is gone on with

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None: ...

    def step(self) -> dict[str, Any]:
        one = tried(self._evaluate, self._params)
        loss = float("nan") if one.loss is None else one.loss
        return {LOSS: loss, "took": one.seconds, "refused": one.refused, "done": True}


class _Told(tune.Callback):
    """Tells of trials as they end."""

    def __init__(self, progress: Progress, trials: int) -> None:
        self._progress, self._trials, self._done = progress, trials, 0
        progress(0, trials)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune writes down what it was given, to go on elsewhere some day: there, nobody watches."""
        return _Told, (_nobody, self._trials)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._done += 1
        self._progress(self._done, self._trials)


def _nobody(done: int, total: int) -> None: ...


def _trials(grid: ResultGrid) -> tuple[Trial, ...]:
    """Those that ended, in the order in which they were begun."""
    ended = [one for one in grid if one.metrics and LOSS in one.metrics]
    return tuple(
        Trial(
            one.config,
            None if one.metrics["refused"] else one.metrics[LOSS],
            one.metrics["took"],
            one.metrics["refused"],
        )
        for one in ended
    )
