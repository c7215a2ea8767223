"""Other people's bandits, each as its documentation would have it, with every day's matured outcomes learned at once.

Optional (the extra `comparison`): `absent()` says which are not installed.
"""

from importlib.util import find_spec

import numpy as np

from evaluation.arena.life import Ask, greatest
from evaluation.arena.log import Decisions, Log
from evaluation.arena.world import World, is_weekend

NEEDS = {"lints": "mabwiser", "vw": "vowpalwabbit"}
SPREAD = 0.05
"""LinTS's α: of 1, 0.2 and 0.05 the one that earned it most here."""
VW_ARGUMENTS = "--cb_explore_adf --cb_type mtr --epsilon 0.05 -q UA --quiet"
"""Of mtr, dr and ips the one that earned it most here; the ε that we explore with."""


def absent() -> dict[str, str]:
    """Policy → the package that it needs and that is not installed."""
    return {policy: package for policy, package in NEEDS.items() if find_spec(package) is None}


class Daily:
    """What has matured since the last time, on each day of comparison."""

    def __init__(self) -> None:
        self._since = 0

    def new(self, day: int, log: Log) -> tuple[Decisions, np.ndarray]:
        found = log.matured(day, self._since)
        self._since = day
        return found


class LinTS:
    """mabwiser's linear Thompson sampling (Agrawal and Goyal 2013): a ridge regression of conversion for each offer.

    The offer with the greatest sampled expectation × net value is shown.
    """

    def __init__(self, world: World, seed: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self._world, self._new, self._ready = world, Daily(), False
        self._arms = list(range(len(world.offers)))
        self._mab = MAB(self._arms, LearningPolicy.LinTS(alpha=SPREAD, l2_lambda=1.0), seed=seed)

    def learn(self, day: int, log: Log) -> None:
        made, conversion = self._new.new(day, log)
        if not len(made):
            return
        rows = [
            self._world.contexts(
                int(one), *(getattr(made, name)[made.day == one] for name in ("user", "surface", "seen"))
            )
            for one in np.unique(made.day)
        ]
        contexts = np.vstack(rows).astype(float)
        if not self._ready:
            self._mean, self._scale = contexts.mean(axis=0), contexts.std(axis=0) + 1e-9
        learn = self._mab.partial_fit if self._ready else self._mab.fit
        learn(made.action, conversion, self._scaled(contexts))
        self._ready = True

    def _scaled(self, contexts: np.ndarray) -> np.ndarray:
        return np.hstack([(contexts - self._mean) / self._scale, np.ones((len(contexts), 1))])

    def probabilities(self, ask: Ask) -> np.ndarray:
        """All weight on the sampled best: its own randomness is in the sample."""
        found = self._mab.predict_expectations(self._scaled(ask.contexts.astype(float)))
        found = [found] if isinstance(found, dict) else found
        sampled = np.array([[row[arm] for arm in self._arms] for row in found])
        return greatest(sampled * self._world.net, ask.may)


class VW:
    """Vowpal Wabbit's contextual bandit with features of users and actions, crossed; ε-greedy, cost −net value."""

    def __init__(self, world: World, seed: int, arguments: str = VW_ARGUMENTS) -> None:
        from vowpalwabbit import Workspace

        self._world, self._new = world, Daily()
        self._vw = Workspace(f"{arguments} --random_seed {seed}")
        still = world.contexts(0, *(np.arange(len(world.people)) * k for k in (1, 0, 0)))
        names = world.encoding.context_columns
        self._kept = [
            at for at, name in enumerate(names) if not name.startswith(("surface=", "offers_seen", "weekend"))
        ]
        numbers = [at for at in self._kept if "=" not in names[at]]
        still[:, numbers] = (still[:, numbers] - still[:, numbers].mean(axis=0)) / still[:, numbers].std(axis=0)
        self._users = [" ".join(f"{at}:{row[at]:.3f}" for at in self._kept if row[at]) for row in still.astype(float)]
        offers = [world.catalog.offers[name] for name in world.offers]
        self._offers = [
            f"|A o{at} g_{offer.group} k_{offer.attributes.get('kind', '')}" for at, offer in enumerate(offers)
        ]
        self._top = float(world.net.max())

    def learn(self, day: int, log: Log) -> None:
        made, conversion = self._new.new(day, log)
        may = self._world.may(made.user, made.surface)
        for row in range(len(made)):
            cost = -conversion[row] * self._world.net[made.action[row]] / self._top
            label = f"0:{cost:.4f}:{made.probability[row]:.6f} "
            shared = self._shared(made.day[row], made.user[row], made.surface[row], made.seen[row])
            self._vw.learn([shared, *self._actions(may[row], made.action[row], label)])

    def _shared(self, day: int, user: int, surface: int, seen: int) -> str:
        weekend = " w" if is_weekend(day) else ""
        return f"shared |U s{surface} n:{seen / 7:.2f}{weekend} {self._users[user]}"

    def _actions(self, may: np.ndarray, action: int = -1, label: str = "") -> list[str]:
        return [(label if at == action else "") + self._offers[at] for at in np.flatnonzero(may)]

    def probabilities(self, ask: Ask) -> np.ndarray:
        out = np.zeros(ask.may.shape)
        seen = np.rint(ask.contexts[:, self._world.encoding.context_columns.index("offers_seen_7d")])
        for row in np.flatnonzero(ask.may.any(axis=1)):
            shared = self._shared(ask.day, ask.user[row], ask.surface[row], seen[row])
            found = self._vw.predict([shared, *self._actions(ask.may[row])])
            out[row, ask.may[row]] = np.array(found) / np.sum(found)
        return out
