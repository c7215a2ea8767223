"""Policies side by side: each lives through the same worlds, a world per seed, and differences are paired by seed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from multiprocessing import get_context
from typing import Any

import numpy as np
from scipy.stats import t as student

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.arena.life import Life, Policy, Start, live, warm_up
from evaluation.arena.lookahead import Informed, LookAhead, Myopic
from evaluation.arena.peers import VW, LinTS, absent
from evaluation.arena.policies import BestSingleOffer, Random, Recipe, StaticPriority, Trained
from evaluation.arena.world import World, make_world

USERS, DAYS, SEEDS = 20_000, 42, 10
OURS, GREEDY, STATIC, LOOK_AHEAD = "ours", "greedy", "static_priority", "look_ahead"
Progress = Callable[[int, int], object]
Make = Callable[[World, Recipe, int], Policy]

POLICIES: Mapping[str, Make] = {
    "random": lambda world, recipe, seed: Random(),
    STATIC: lambda world, recipe, seed: StaticPriority(world),
    "best_single_offer": lambda world, recipe, seed: BestSingleOffer(world),
    "propensity_argmax": lambda world, recipe, seed: Trained(world, recipe, epsilon=0.0, by_value=False, seed=seed),
    "lints": lambda world, recipe, seed: LinTS(world, seed),
    "vw": lambda world, recipe, seed: VW(world, seed),
    GREEDY: lambda world, recipe, seed: Trained(world, recipe, epsilon=0.0, seed=seed),
    OURS: lambda world, recipe, seed: Trained(world, recipe, seed=seed),
    "informed": lambda world, recipe, seed: Informed(world),
    "myopic": lambda world, recipe, seed: Myopic(world),
    LOOK_AHEAD: lambda world, recipe, seed: LookAhead(world),
}
REFERENCES = ("informed", "myopic", LOOK_AHEAD)
"""These know the truth, and no policy can be expected to reach them."""
OURS_RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Setting:
    """What worlds to compare in. `files` are the catalog's."""

    files: Mapping[str, bytes]
    users: int = USERS
    days: int = DAYS
    recipe: Recipe = OURS_RECIPE


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % interval: Student's t over paired differences. No interval from one seed."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Raises ValueError for none."""
        if not len(values):
            raise ValueError("a mean needs a value")
        mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        if spread == 0.0:  # one seed, or the same policy twice: there is nothing to take an interval from
            return cls(mean, None, None)
        half = float(student.ppf(0.975, len(values) - 1)) * spread / sqrt(len(values))
        return cls(mean, mean - half, mean + half)

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Comparison:
    """What each policy did in the world of each seed."""

    setting: Setting
    seeds: tuple[int, ...]
    lives: Mapping[str, Mapping[int, Life]]
    """Policy → seed → its life, without the log."""
    missing: Mapping[str, str]
    """Policies left out → the package that they need."""

    def earned(self, policy: str) -> np.ndarray:
        """(seeds,) net value a visit."""
        return np.array([self.lives[policy][seed].earned for seed in self.seeds])

    def captured(self, policy: str) -> np.ndarray | None:
        """(seeds,) how far of the way from static priority to the look-ahead reference a policy comes."""
        if STATIC not in self.lives or LOOK_AHEAD not in self.lives:
            return None
        floor, top = self.earned(STATIC), self.earned(LOOK_AHEAD)
        return (self.earned(policy) - floor) / (top - floor)

    def lead(self, over: str) -> np.ndarray:
        """(seeds,) what ours earns more than another policy, as a share of that one's value."""
        return self.earned(OURS) / self.earned(over) - 1.0

    @property
    def figures(self) -> dict[str, Interval]:
        """The figures that Segue is held against, as far as the policies that they need were compared."""
        if OURS not in self.lives:
            return {}
        found: dict[str, Interval] = {}
        captured = self.captured(OURS)
        if captured is not None:
            found["captured_share"] = Interval.of(captured)
        others = {"vs_propensity_argmax": "propensity_argmax", "vs_lints": "lints", "vs_vw": "vw"}
        found |= {name: Interval.of(self.lead(other)) for name, other in others.items() if other in self.lives}
        if GREEDY in self.lives:
            found["exploration_cost"] = Interval.of(1.0 - self.earned(OURS) / self.earned(GREEDY))
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """A record per policy: its value, and its difference to ours, paired by seed."""
        for name, lives in self.lives.items():
            each = [lives[seed] for seed in self.seeds]
            captured = self.captured(name)
            yield {
                "policy": name,
                "reference": name in REFERENCES,
                "value": Interval.of(self.earned(name)).to_json(),
                "minus_ours": None
                if OURS not in self.lives or name == OURS
                else Interval.of(self.earned(name) - self.earned(OURS)).to_json(),
                "captured_share": None if captured is None else float(captured.mean()),
                "regret": float(np.mean([life.regret for life in each])),
                "shown": float(np.mean([life.shown for life in each])),
                "fatigue": float(np.mean([life.fatigue for life in each])),
            }

    def to_json(self) -> dict[str, Any]:
        figures = {name: found.value for name, found in self.figures.items()}
        return {
            **figures,
            "intervals": {name: found.to_json() for name, found in self.figures.items()},
            "policies": [*self.rows()],
            "seeds": list(self.seeds),
            "users": self.setting.users,
            "days": self.setting.days,
            "learner": self.setting.recipe.learner,
            "left_out": dict(self.missing),
        }


def chosen_policies(wanted: str) -> tuple[str, ...]:
    """Names from a comma-separated list, or all of them. Raises UserError for an unknown one."""
    if wanted == "all":
        return tuple(POLICIES)
    names = [name.strip().replace("-", "_") for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise UserError(
            f"There is no policy {unknown[0] if unknown else wanted!r}. "
            f"Give --policies all, or some of {', '.join(POLICIES)}, separated by commas."
        )
    return tuple(name for name in POLICIES if name in names)


def compare(
    setting: Setting,
    policies: Sequence[str] = tuple(POLICIES),
    seeds: Sequence[int] = tuple(range(1, SEEDS + 1)),
    *,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Let every policy live through the world of every seed; the same arguments give the same figures.

    `workers` processes share the work (default: one per core). Policies whose package is missing are left out, and
    named in `missing`. Raises UserError for a catalog that nothing can be learned under, and where none is left.
    """
    _start(setting, seeds[0])  # a catalog that can't do says so before any process is started
    missing = {name: package for name, package in absent().items() if name in policies}
    names = [name for name in policies if name not in missing]
    if not names:
        raise UserError(f"Nothing is left to compare: install {', '.join(missing.values())}.")
    tasks = [(seed, name) for seed in seeds for name in names]
    lives: dict[str, dict[int, Life]] = {name: {} for name in names}
    progress(0, len(tasks))
    for done, ((seed, name), life) in enumerate(_lived(setting, tasks, workers or os.cpu_count() or 1), 1):
        lives[name][seed] = life
        progress(done, len(tasks))
    return Comparison(setting, tuple(seeds), lives, missing)


def _lived(setting: Setting, tasks: Sequence[tuple[int, str]], workers: int) -> Iterator[tuple[tuple[int, str], Life]]:
    if workers == 1:
        for task in tasks:
            yield task, one_life(setting, *task)
        return
    # Processes of their own, started anew: LightGBM's threads do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _alone) as pool:
        waiting = {pool.submit(one_life, setting, *task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """Each process has one core: libraries that would take them all are told so."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def one_life(setting: Setting, seed: int, policy: str) -> Life:
    """One policy in the world of one seed. The log is dropped: it would have to travel between processes."""
    start = _start(setting, seed)
    return replace(live(start, POLICIES[policy](start.world, setting.recipe, seed)), log=None)


def _start(setting: Setting, seed: int) -> Start:
    return _cached_start(tuple(sorted(setting.files.items())), setting.users, setting.days, seed)


@lru_cache(maxsize=2)
def _cached_start(files: tuple[tuple[str, bytes], ...], users: int, days: int, seed: int) -> Start:
    return warm_up(make_world(load_catalog(dict(files)), users=users, days=days, seed=seed))
