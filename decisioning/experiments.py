"""Who is in which arm: stable, independent of everything but the user, and only ever widened by a ramp.

The hash is the one that Spotify's Confidence publishes, so that its tools can recompute our assignments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from itertools import accumulate

import mmh3

from decisioning.catalog import Ablations, Catalog, Experiment, Factor, Holdout
from decisioning.knowledge import VERSION
from decisioning.native import native

BUCKETS = 1_000_000

ABLATION = "ablation"
"""What ablation arms are called among a user's arms; no experiment may have this name."""
NO_MODEL = f"no_{Factor.MODEL}"
"""The arm of those whose scores are not personal."""


def bucket(salt: str, user: str, buckets: int = BUCKETS) -> int:
    """A user's bucket in [0, buckets): MurmurHash3 x64_128 of `salt|user`, its low 64 bits shifted right by 4."""
    low: int = mmh3.hash64(f"{salt}|{user}".encode(), signed=False)[0]
    return (low >> 4) % buckets


MOST_SEATS = 64
"""How many experiments and ablations the extension knows."""

_extension = native("decisioning._user", VERSION)
bucket_of: Callable[[str, str, int], int] = bucket if _extension is None else _extension.bucket
"""`bucket`, the faster way where it is built."""


def _threshold(percent: float) -> int:
    return round(percent * BUCKETS / 100)


class Assignment:
    """Where a catalog's declarations put each user; thresholds are looked up once per release."""

    def __init__(self, catalog: Catalog) -> None:
        self._holdouts = [(holdout, _threshold(holdout.percent)) for holdout in catalog.holdouts]
        ablations = tuple(_ablations(catalog.ablations))
        self._everyone = len(ablations)
        """How many of the seats are for everybody, whatever audience they are in."""
        self._seats = (*ablations, *map(_seats, catalog.experiments))
        self.by_c: Callable[[str, int], dict[str, str]] | None = None
        """`arms` by the extension, where it is built and the seats aren't too many."""
        if _extension is not None and len(self._seats) <= MOST_SEATS:
            self.by_c = _extension.Seats(tuple(map(astuple, self._seats)), BUCKETS, self._everyone).arms

    def holdout(self, user: str, surface: str) -> Holdout | None:
        """The holdout that keeps this user on the simple policy here, if any."""
        for holdout, below in self._holdouts:
            here = not holdout.surfaces or surface in holdout.surfaces
            if here and bucket_of(holdout.salt, user, BUCKETS) < below:
                return holdout
        return None

    def holdouts_on(self, surface: str) -> tuple[tuple[str, int, str], ...]:
        """(salt, the first bucket that is out, name) of each holdout of a surface."""
        return tuple(
            (one.salt, below, one.name) for one, below in self._holdouts if not one.surfaces or surface in one.surfaces
        )

    def arms(self, user: str, audiences: int) -> dict[str, str]:
        """The arm of each experiment that the user takes part in, by experiment name; and their ablation, if any.

        Bit n of `audiences` says whether the user is in the audience of the catalog's n-th experiment.
        """
        if self.by_c is not None:
            return self.by_c(user, audiences)
        arms: dict[str, str] = {}
        buckets: dict[str, int] = {}
        audiences = audiences << self._everyone | (1 << self._everyone) - 1
        for n, seat in enumerate(self._seats):
            if not audiences >> n & 1:
                continue
            found = buckets.get(seat.layer)
            if found is None:
                found = buckets[seat.layer] = bucket_of(seat.layer, user, BUCKETS)
            if seat.start <= found < seat.end:
                drawn = seat.arm(user)
                if drawn is not None:
                    arms[seat.name] = drawn
        return arms


@dataclass(frozen=True, slots=True)
class _Seats:
    """An experiment in buckets, or an ablation: one bucket says who is in, another which arm, so a ramp adds users and
    moves nobody.
    """

    name: str
    layer: str
    """The salt of the layer."""
    start: int
    end: int
    salt: str
    arms: tuple[tuple[int, str], ...]
    """(the first bucket that is no longer the arm's, its name)."""

    def arm(self, user: str) -> str | None:
        """The arm of a user who has a seat."""
        spot = bucket_of(self.salt, user, BUCKETS)
        for upper, name in self.arms:
            if spot < upper:
                return name
        return None


def _seats(experiment: Experiment) -> _Seats:
    start, end = experiment.starts_at, experiment.starts_at + experiment.percent
    upper = accumulate(arm.percent for arm in experiment.arms)
    arms = tuple((_threshold(end), arm.name) for end, arm in zip(upper, experiment.arms, strict=True))
    layer, salt = f"layer:{experiment.layer}", f"arm:{experiment.name}"
    return _Seats(experiment.name, layer, _threshold(start), _threshold(end), salt, arms)


def _ablations(ablations: Ablations) -> Iterator[_Seats]:
    """Each factor has a quarter of the layer to grow in, so that a change of one moves nobody of another."""
    for factor in ablations.factors:
        start = 100.0 / len(Factor) * list(Factor).index(factor)
        arms = ((BUCKETS, f"no_{factor}"),)
        layer, salt = f"layer:{ABLATION}", f"arm:{ABLATION}"
        yield _Seats(ABLATION, layer, _threshold(start), _threshold(start + ablations.percent), salt, arms)


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
