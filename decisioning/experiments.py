"""Who is in which arm: stable, independent of everything but the user, and only ever widened by a ramp.

The hash is the one that Spotify's Confidence publishes, so that its tools can recompute our assignments.
"""

from collections.abc import Mapping

import mmh3

from decisioning.catalog import Ablations, Catalog, Experiment, Factor, Holdout
from decisioning.conditions import holds
from decisioning.domain import Value

BUCKETS = 1_000_000

ABLATION = "ablation"
"""What ablation arms are called among a user's arms; no experiment may have this name."""


def bucket(salt: str, user: str, buckets: int = BUCKETS) -> int:
    """A user's bucket in [0, buckets): MurmurHash3 x64_128 of `salt|user`, its low 64 bits shifted right by 4."""
    low = mmh3.hash64(f"{salt}|{user}", 0, True, False)[0]
    return int(low >> 4) % buckets


def _threshold(percent: float) -> int:
    return round(percent * BUCKETS / 100)


def holdout_of(catalog: Catalog, user: str, surface: str) -> Holdout | None:
    """The holdout that keeps this user on the simple policy here, if any."""
    for holdout in catalog.holdouts:
        here = not holdout.surfaces or surface in holdout.surfaces
        if here and bucket(holdout.salt, user) < _threshold(holdout.percent):
            return holdout
    return None


def arms_of(catalog: Catalog, user: str, values: Mapping[str, Value], now: float) -> dict[str, str]:
    """The arm of each experiment that the user takes part in, by experiment name; and their ablation, if any."""
    arms = {}
    if catalog.ablations.factors:
        factor = _switched_off(catalog.ablations, user)
        if factor is not None:
            arms[ABLATION] = f"no_{factor}"
    for experiment in catalog.experiments:
        if experiment.audience is not None and not holds(experiment.audience, values, now):
            continue
        arm = _arm(experiment, user)
        if arm is not None:
            arms[experiment.name] = arm
    return arms


def _arm(experiment: Experiment, user: str) -> str | None:
    """One bucket says who is in, another which arm: a ramp of `percent` adds users and moves nobody."""
    seat = bucket(f"layer:{experiment.layer}", user)
    if not _threshold(experiment.starts_at) <= seat < _threshold(experiment.starts_at + experiment.percent):
        return None
    spot, upper = bucket(f"arm:{experiment.name}", user), 0.0
    for arm in experiment.arms:
        upper += arm.percent
        if spot < _threshold(upper):
            return arm.name
    return None


def _switched_off(ablations: Ablations, user: str) -> Factor | None:
    """Each factor has a quarter of the layer to grow in, so that a change of one moves nobody of another."""
    seat = bucket(f"layer:{ABLATION}", user)
    for factor in ablations.factors:
        start = 100.0 / len(Factor) * list(Factor).index(factor)
        if _threshold(start) <= seat < _threshold(start + ablations.percent):
            return factor
    return None


def ablated(arms: Mapping[str, str]) -> Factor | None:
    """The factor that a user's arms switch off, if any."""
    arm = arms.get(ABLATION)
    return Factor(arm.removeprefix("no_")) if arm is not None else None


def overrides_of(catalog: Catalog, arms: Mapping[str, str]) -> dict[str, float]:
    """What the user's arms set, by path; experiments never set the same path (the checker sees to it)."""
    return {
        path: value
        for experiment in catalog.experiments
        for arm in experiment.arms
        if arms.get(experiment.name) == arm.name
        for path, value in arm.overrides.items()
    }
