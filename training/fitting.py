"""How the fits of a training run are done on an engine: by ranks together, or each whole, several side by side."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decisioning.errors import UserError
from evaluation.values.crossfit import FitAll
from evaluation.values.lessons import Folds
from models.encoding import Encoding
from models.fitting.boosting import joined
from models.fitting.sample import Params, Sample
from models.learners import LEARNERS, fit
from models.predictors import Predictor
from scaling.engines import Engine
from training.config import Config

Parts = Sequence[frozenset[int]]


@dataclass(frozen=True)
class Fitting:
    """The one way in which a configuration is fitted, wherever that is."""

    config: Config
    encoding: Encoding
    seed: int

    def __call__(self, sample: Sample, network: Params | None = None) -> Predictor:
        """`network` is what `boosting.joined` says of the ranks that fit together."""
        config, params = self.config, {**self.config.params, **(network or {})}
        if config.downsample_negatives is not None:
            sample = sample.thinned(config.downsample_negatives, self.seed)
        return fit(config.learner, self.encoding, sample, params, self.seed, config.monotone)


def fit_all_on(engine: Engine, fitting: Fitting) -> FitAll:
    """Ranks fit one model after the other together where the learner can, and hold a part of the rows each.

    Else every fit is a task of its own, on all of its rows. Raises UserError where the rows can't be dealt out, and
    Disagreement where ranks come to different models.
    """
    if is_together(engine, fitting.config):
        return lambda folds, parts: _together(engine, fitting, folds, parts)
    return lambda folds, parts: engine.map(_SideBySide(fitting, folds), parts)


def is_together(engine: Engine, config: Config) -> bool:
    return LEARNERS[config.learner].together and engine.ranks > 1


@dataclass(frozen=True)
class _SideBySide:
    """Each part whole, in one worker: equal to the fits of one process."""

    fitting: Fitting
    folds: Folds

    def __call__(self) -> Callable[[frozenset[int]], Predictor]:
        return self._fit

    def _fit(self, left_out: frozenset[int]) -> Predictor:
        return self.fitting(self.folds.part(left_out))


def _together(engine: Engine, fitting: Fitting, folds: Folds, parts: Parts) -> Iterable[Predictor]:
    shards = folds.shards(engine.ranks)
    if not all(shard.teaches(left_out) for shard in shards for left_out in parts):
        raise UserError(
            f"There are too few conversions to deal them out to {len(shards)} workers in folds: "
            "take fewer --workers, or --engine local."
        )
    return engine.together(_Together(fitting, tuple(parts)), shards)


@dataclass(frozen=True)
class _Together:
    """What each rank does: all parts, in the same order as every other rank."""

    fitting: Fitting
    parts: tuple[frozenset[int], ...]

    def __call__(self, shard: Folds, network: Mapping[str, Any]) -> Iterator[tuple[str, Predictor]]:
        with joined(network) as words:
            for left_out in self.parts:
                predictor = self.fitting(shard.part(left_out), words)
                yield digest(predictor), predictor


def digest(predictor: Predictor) -> str:
    """The same for predictors that are the same to the last bit."""
    told = json.dumps([predictor.kind, predictor.to_json(), dict(predictor.texts)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
