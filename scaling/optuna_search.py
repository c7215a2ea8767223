"""Search for parameters in this process, by Optuna's tree-structured Parzen estimator: seeded, and so repeatable."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from decisioning.errors import UserError
from scaling.engines import Task
from scaling.search import Choice, Progress, Range, Search, Space, Trial, Trials, Value

INTERRUPTED, TIME = "interrupted", "no time was left"


def search(task: Task[Mapping[str, Value], float], asked: Search, progress: Progress) -> Trials:
    """As `engines.Engine.search`, one trial after the other."""
    study, space = _study(asked), distributions(asked.space)
    evaluate, found, began = task(), [], time.monotonic()
    progress(0, asked.trials)
    for number in range(asked.trials):
        if number and time.monotonic() - began > asked.seconds:
            return Trials(tuple(found), TIME)
        trial = study.ask(space)
        try:
            found.append(tried(evaluate, trial.params))
        except KeyboardInterrupt:
            return Trials(tuple(found), INTERRUPTED)
        loss = found[-1].loss
        study.tell(trial, loss) if loss is not None else study.tell(trial, state=_failed())
        progress(number + 1, asked.trials)
    return Trials(tuple(found))


def tried(evaluate: Callable[[Mapping[str, Value]], float], params: Mapping[str, Value]) -> Trial:
    """One trial; what a person can mend of its parameters is kept as the reason for having no loss."""
    began = time.monotonic()
    try:
        loss, refused = evaluate(params), None
    except UserError as error:
        loss, refused = None, str(error)
    return Trial(dict(params), loss, time.monotonic() - began, refused)


def distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's own words. Raises UserError where Optuna is not installed."""
    found = _optuna().distributions
    return {name: _distribution(found, one) for name, one in space.items()}


def _distribution(found: Any, one: Range | Choice) -> Any:
    if isinstance(one, Choice):
        return found.CategoricalDistribution(one.among)
    kind = found.IntDistribution if one.is_whole else found.FloatDistribution
    return kind(one.low, one.high, log=one.log)


def _study(asked: Search) -> Any:
    optuna = _optuna()
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=asked.seed))
    study.enqueue_trial(dict(asked.first))
    return study


def _failed() -> Any:
    return _optuna().trial.TrialState.FAIL


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("Searching needs Optuna, which is not installed: pip install 'segue[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
