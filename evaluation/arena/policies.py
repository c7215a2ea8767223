"""The policies that are compared, but for other people's bandits (`arena_peers`) and references (`arena_lookahead`)."""

from dataclasses import dataclass, field

import numpy as np

from evaluation.arena.life import Ask, Even, even, greatest
from evaluation.arena.log import Log, fresh, logged
from evaluation.arena.world import WARM_UP, World
from evaluation.values.arm_means import arm_means, table
from evaluation.values.crossfit import CrossFit, Fitted, shrunk
from models.learners import Params, fit
from models.predictors import Predictor

EXPLORES = 0.05
"""ε of the mixture, as served by default."""
RETRAINS = 14
"""Days between trainings."""


class Random(Even):
    """Evenly, for ever."""


class StaticPriority:
    """What the service does without a model: priority class, then the catalog's own guess of p × net value."""

    def __init__(self, world: World) -> None:
        offers = [world.catalog.offers[name] for name in world.offers]
        guess = [offer.score.prior * offer.score.net for offer in offers]
        order = sorted(range(len(offers)), key=lambda at: (offers[at].priority, guess[at]))
        self._rank = np.argsort(order)

    def learn(self, day: int, log: Log) -> None:
        pass

    def probabilities(self, ask: Ask) -> np.ndarray:
        return greatest(np.broadcast_to(self._rank, ask.may.shape), ask.may)


@dataclass
class Schedule:
    """When a policy learns: on the first day of comparison, then every so many days."""

    every: int = RETRAINS

    def due(self, day: int) -> bool:
        return day >= WARM_UP and (day - WARM_UP) % self.every == 0


class BestSingleOffer:
    """Each surface's offers in order of mean net value, smoothed as in training: the first that a user may have."""

    def __init__(self, world: World, every: int = RETRAINS) -> None:
        self._world, self._schedule = world, Schedule(every)
        self._values = np.zeros((len(world.surfaces), len(world.offers)))

    def learn(self, day: int, log: Log) -> None:
        if self._schedule.due(day):
            found = logged(self._world, *log.matured(day))
            self._values = table(arm_means(found, np.arange(found.n)), found) * self._world.net

    def probabilities(self, ask: Ask) -> np.ndarray:
        return greatest(self._values[ask.surface], ask.may)


@dataclass(frozen=True)
class Recipe:
    """How to train, as a training config says it; what is not given is the product's default."""

    learner: str = "pooled"
    params: Params = field(default_factory=dict)
    calibration: str = "platt"
    shrinkage: float | None = None
    open_decisions: bool = True
    """Learn from open decisions too, their positives weighted for their delay."""


@dataclass
class Trained:
    """The project's own training: learner, calibration, means and shrinkage λ, cross-fitted, then p × net value.

    With `epsilon`, the mixture (1 − ε) 1[a = best] + ε uniform, whose probabilities are logged and learned with.
    With `by_value` False, the same training for probability alone.
    """

    world: World
    recipe: Recipe = Recipe()
    epsilon: float = EXPLORES
    by_value: bool = True
    every: int = RETRAINS
    seed: int = 0
    shrinkages: list[float] = field(default_factory=list)
    """λ of each training."""

    def __post_init__(self) -> None:
        self._net = self.world.net if self.by_value else np.ones(len(self.world.net))
        self._model: tuple[Predictor, Fitted, np.ndarray] | None = None

    def learn(self, day: int, log: Log) -> None:
        if not Schedule(self.every).due(day):
            return
        recipe, encoding = self.recipe, self.world.encoding
        known = fresh(self.world, log, day) if recipe.open_decisions else None
        found = logged(self.world, *log.matured(day), net=self._net, fresh=known)
        fits = CrossFit(
            found,
            encoding,
            lambda sample: fit(recipe.learner, encoding, sample, recipe.params, self.seed),
            seed=self.seed,
            calibration=recipe.calibration,
            shrinkage=recipe.shrinkage,
        )
        predictor, fitted = fits.final()
        self.shrinkages.append(fitted.shrinkage)
        self._model = predictor, fitted, table(fitted.means, found)

    def p(self, ask: Ask) -> np.ndarray:
        """(n, A) probabilities as served: m + λ (s − m)."""
        if self._model is None:
            raise ValueError("a policy that is trained has to learn before it is asked")
        predictor, fitted, means = self._model
        means = means[ask.surface]
        if not fitted.shrinkage:
            return means
        raw = predictor.matrix(ask.contexts, list(range(len(self.world.offers))))
        return shrunk(raw, means, fitted.calibration, fitted.shrinkage)

    def probabilities(self, ask: Ask) -> np.ndarray:
        best = greatest(self.p(ask) * self._net, ask.may)
        return (1 - self.epsilon) * best + self.epsilon * even(ask.may)
