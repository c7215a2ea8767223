"""One policy's life in a world: days of decisions, fatigue and late outcomes, and what it earned against the truth."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from evaluation.arena.log import Decisions, Log
from evaluation.arena.world import RECENT, WARM_UP, World, fade


@dataclass(frozen=True)
class Ask:
    """n decisions to make on one day: all that a policy may know of them."""

    day: int
    user: np.ndarray
    surface: np.ndarray
    may: np.ndarray
    """(n, A) bool: what the rules leave."""
    contexts: np.ndarray
    """(n, context columns) of the world's encoding."""
    fatigue: np.ndarray
    """(n,) true fatigue: only references that know the truth may look."""

    def __len__(self) -> int:
        return len(self.user)


class Policy(Protocol):
    """A way to choose. It keeps what it has learned; the arena keeps the world."""

    def learn(self, day: int, log: Log) -> None:
        """Called at the start of each day, with the policy's own log; `Log.matured(day)` is what is known by then."""
        ...

    def probabilities(self, ask: Ask) -> np.ndarray:
        """(n, A) the chance of each offer. What a row lacks to 1 is the chance to show nothing."""
        ...


@dataclass
class State:
    """What policies change about users."""

    fatigue: np.ndarray
    """(U,)"""
    shown: np.ndarray
    """(RECENT, U) whether an offer was shown, a row per day of the week."""

    @classmethod
    def fresh(cls, users: int) -> "State":
        return cls(np.zeros(users), np.zeros((RECENT, users), bool))

    def copy(self) -> "State":
        return State(self.fatigue.copy(), self.shown.copy())

    def end_day(self, day: int, users: np.ndarray) -> None:
        """`users`: who was shown an offer on this day."""
        self.fatigue[users] += 1.0
        self.fatigue = fade(self.fatigue)
        self.shown[day % RECENT] = False
        self.shown[day % RECENT, users] = True


@dataclass(frozen=True)
class Life:
    """What a policy did from the first day of comparison, and what it was worth in truth."""

    log: Log | None
    """Warm-up included; None where it was not kept."""
    earned: float
    """Net value a visit, expected under the truth and the policy's probabilities, at the states that it met."""
    regret: float
    """What the best offer at the same states would have earned more, a visit, counting that day only."""
    shown: float
    """Share of visits that were shown an offer."""
    fatigue: float
    """Mean fatigue met."""
    daily: np.ndarray = field(repr=False)
    """(days,) net value of each day."""


class Even:
    """Draws evenly from whatever the rules leave."""

    def learn(self, day: int, log: Log) -> None:
        pass

    def probabilities(self, ask: Ask) -> np.ndarray:
        return even(ask.may)


def even(may: np.ndarray) -> np.ndarray:
    """(n, A) the same chance for all that may be shown."""
    return may / np.maximum(may.sum(axis=1, keepdims=True), 1)


def greatest(scores: np.ndarray, may: np.ndarray) -> np.ndarray:
    """(n, A) all weight on the best that may be shown; on nothing where nothing may."""
    out = np.zeros(may.shape)
    out[np.arange(len(may)), np.where(may, scores, -np.inf).argmax(axis=1)] = 1.0
    return out * may


@dataclass(frozen=True)
class Start:
    """Where all policies of a world begin: the evenly explored log of the warm-up, and the users as it left them."""

    world: World
    log: Log
    state: State


def warm_up(world: World) -> Start:
    log, state = Log(world), State.fresh(len(world.people))
    for day in range(WARM_UP):
        one_day(world, day, Even(), log, state)
    return Start(world, log, state)


def live(start: Start, policy: Policy) -> Life:
    """The days of comparison under one policy. `start` stays as it is."""
    world, log, state = start.world, start.log.copy(), start.state.copy()
    days = range(WARM_UP, WARM_UP + world.days)
    sums = []
    for day in days:
        policy.learn(day, log)
        sums.append(one_day(world, day, policy, log, state))
    found = np.array(sums)
    visits = max(int((world.visits[WARM_UP:] >= 0).sum()), 1)
    earned, regret, shown, fatigue = (found.sum(axis=0) / visits).tolist()
    return Life(log, earned, regret, shown, fatigue, found[:, 0])


def one_day(world: World, day: int, policy: Policy, log: Log, state: State) -> np.ndarray:
    """Decide, record, tire. (4,) sums over the day's visits: net value, regret, offers shown, fatigue met."""
    user = np.flatnonzero(world.visits[day] >= 0)
    surface = world.visits[day, user]
    may = world.may(user, surface)
    seen, fatigue = state.shown[:, user].sum(axis=0), state.fatigue[user]
    ask = Ask(day, user, surface, may, world.contexts(day, user, surface, seen), fatigue)
    chances = policy.probabilities(ask)
    action = drawn(chances, world.draw[day, user])
    p = world.p(day, user, surface, fatigue)
    value = np.where(may, p * world.net, 0.0)
    earned, best = (chances * value).sum(axis=1), np.maximum(value.max(axis=1), 0.0)
    rows = np.flatnonzero(action >= 0)
    shown, chosen = user[rows], action[rows]
    converts = world.mind[day, shown] < p[rows, chosen]
    when = day + world.patience[day, shown] * world.delay[chosen]
    log.add(
        Decisions(
            day=np.full(len(rows), day),
            user=shown,
            surface=surface[rows],
            action=chosen,
            probability=chances[rows, chosen],
            converts_on=np.where(converts, when, np.inf),
            seen=seen[rows],
            fatigue=fatigue[rows],
        )
    )
    state.end_day(day, shown)
    return np.array([earned.sum(), (best - earned).sum(), len(rows), fatigue.sum()])


def drawn(chances: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """(n,) the action that each draw falls on; −1 for nothing. `chances` (n, A), rows summing to at most 1."""
    ends = np.cumsum(chances, axis=1)
    # A row that should sum to 1 may miss it by rounding: the last offer with any chance takes the rest.
    whole = ends[:, -1] > 1 - 1e-9
    action = (draw[:, None] >= ends).sum(axis=1)
    last = chances.shape[1] - 1 - (chances[:, ::-1] > 0).argmax(axis=1)
    return np.where(action < chances.shape[1], action, np.where(whole, last, -1))
