"""References that know the truth: the best of each moment, the best of the whole time, and the best of the features.

Under fatigue the best of each moment is no upper bound: whatever is shown costs something of all that is shown later. A
user's state is one number, fatigue, that nothing but being shown an offer raises. So the best policy of the whole time
is found exactly, by going backwards from the last day (Bellman 1957) over a grid of fatigue, between whose points the
values are taken as linear. It knows how often each user comes, and not when.
"""

import numpy as np

from evaluation.arena.life import Ask, greatest
from evaluation.arena.log import Log
from evaluation.arena.world import (
    FADES,
    WARM_UP,
    World,
    fade,
    surface_shares,
    tired,
    visit_rates,
)
from evaluation.simulator.world import LATENTS, NOTICED, STRENGTH, loadings, sigmoid

POINTS = 12
"""Of the grid of fatigue."""


class Myopic:
    """The offer with the greatest true p × net value, today."""

    def __init__(self, world: World) -> None:
        self._world = world

    def learn(self, day: int, log: Log) -> None:
        pass

    def value(self, ask: Ask) -> np.ndarray:
        return self._world.p(ask.day, ask.user, ask.surface, ask.fatigue) * self._world.net

    def probabilities(self, ask: Ask) -> np.ndarray:
        return greatest(self.value(ask), ask.may)


class LookAhead(Myopic):
    """Shows the same offer, but only where that is worth more than what it costs later; else shows nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._grid = np.linspace(0.0, most_fatigue(), POINTS)
        self._later = backwards(world, self._grid)

    def probabilities(self, ask: Ask) -> np.ndarray:
        now = np.where(ask.may, self.value(ask), -np.inf).max(axis=1)
        later = self._later[ask.day - WARM_UP + 1][ask.user]
        showing = now + interpolated(self._grid, later, fade(ask.fatigue + 1.0))
        shows = showing >= interpolated(self._grid, later, fade(ask.fatigue))
        return super().probabilities(ask) * shows[:, None]


def backwards(world: World, grid: np.ndarray) -> np.ndarray:
    """(days + 1, U, points) what each user will be worth from the start of a day on, under the best policy."""
    comes, shares = visit_rates(world.people)[:, None], surface_shares(world.surfaces)
    values = np.zeros((world.days + 1, len(world.people), len(grid)))
    step = _Best(world, grid)
    rested, after = _weights(grid, fade(grid)), _weights(grid, fade(grid + 1.0))
    for day in range(world.days - 1, -1, -1):
        later = values[day + 1]
        resting, tired_later = later @ rested, later @ after
        visit = np.zeros_like(later)
        for surface, share in enumerate(shares):
            visit += share * np.maximum(step.of(WARM_UP + day, surface) + tired_later, resting)
        values[day] = comes * visit + (1 - comes) * resting
    return values


class _Best:
    """What the best offer is worth at once, for every user and point of the grid, by surface and day."""

    def __init__(self, world: World, grid: np.ndarray) -> None:
        self._world = world
        self._odds = np.exp(-world.logits)  # of not converting; places, seasons and fatigue multiply it
        self._tire = np.exp(world.fatigue * tired(grid))

    def of(self, day: int, surface: int) -> np.ndarray:
        """(U, points); −∞ for those who may see nothing there."""
        world = self._world
        here = np.flatnonzero(world.stands[surface])
        odds = self._odds[:, here] * np.exp(-world.places[surface, here] - world.season[day, here])
        worth = np.where(world.eligible[:, here], NOTICED * world.net[here], -np.inf)
        return np.stack([(worth / (1.0 + odds * factor)).max(axis=1) for factor in self._tire], axis=1)


class Informed(Myopic):
    """Knows all but the tastes themselves, which it sees as everybody does: the most that features can tell.

    Tastes are expected from features by least squares; the chance is averaged over what remains unknown, by the usual
    approximation E[σ(z)] ≈ σ(μ / √(1 + π s² / 8)) (MacKay 1992).
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        people = world.people
        known = np.column_stack(
            [
                world.signals,
                people.market[:, None] == np.unique(people.market),
                people.tier[:, None] == np.arange(3),
                people.age_days / people.age_days.mean(),
            ]
        ).astype(float)
        expected = known @ np.linalg.lstsq(known, people.tastes, rcond=None)[0]
        unknown = people.tastes - expected
        weights = STRENGTH * np.array([loadings(world.catalog.offers[name]) for name in world.offers])
        spread = np.einsum("ak,kl,al->a", weights, np.cov(unknown.T).reshape(len(LATENTS), -1), weights)
        self._logits = world.logits - unknown @ weights.T
        self._flatter = np.sqrt(1.0 + np.pi / 8.0 * spread)

    def value(self, ask: Ask) -> np.ndarray:
        world = self._world
        logits = self._logits[ask.user] + world.places[ask.surface] + world.season[ask.day]
        logits -= world.fatigue * tired(ask.fatigue)[:, None]
        return NOTICED * sigmoid(logits / self._flatter) * world.net


def most_fatigue() -> float:
    """Of somebody who was shown an offer on every day of an endless past."""
    return 1.0 / np.expm1(1.0 / FADES)


def interpolated(grid: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n,) each row of `values` (n, points), linear between the points of an even grid; flat outside."""
    place = np.clip((at - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1.0)
    left = np.minimum(place.astype(np.intp), len(grid) - 2)
    rows, part = np.arange(len(values)), place - left
    return (1 - part) * values[rows, left] + part * values[rows, left + 1]


def _weights(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(points, len(at)) such that `values @ weights` are the values between the points."""
    return np.stack([interpolated(grid, np.eye(len(grid)), np.full(len(grid), one)) for one in at], axis=1)
