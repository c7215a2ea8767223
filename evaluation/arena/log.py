"""What a policy has shown in a world, and what of it has become known by a given day."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from decisioning.catalog import DAY
from evaluation.arena.world import World
from evaluation.labels.delays import Delays
from evaluation.labels.logged import NET_VALUE, Fresh, Logged

FIELDS = ("day", "user", "surface", "action", "probability", "converts_on", "seen", "fatigue")


@dataclass(frozen=True)
class Decisions:
    """n decisions; every array has shape (n,)."""

    day: np.ndarray
    user: np.ndarray
    surface: np.ndarray
    action: np.ndarray
    """The offer's place in `World.offers`."""
    probability: np.ndarray
    """Of the action, under the policy that took it."""
    converts_on: np.ndarray
    """The moment of the conversion, in days; infinite where there is none. It may lie in the future."""
    seen: np.ndarray
    """Offers shown to the user in the seven days before."""
    fatigue: np.ndarray
    """The user's true fatigue at that moment: for judging policies, not for them to know."""

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: np.ndarray) -> "Decisions":
        return Decisions(*(getattr(self, name)[rows] for name in FIELDS))


@dataclass
class Log:
    """Decisions in order of time. `matured` never looks past its day."""

    world: World
    parts: list[Decisions] = field(default_factory=list)

    def copy(self) -> "Log":
        return Log(self.world, list(self.parts))

    def add(self, part: Decisions) -> None:
        self.parts.append(part)

    def all(self) -> Decisions:
        return Decisions(*(np.concatenate([getattr(part, name) for part in self.parts]) for name in FIELDS))

    def matured(self, day: int, since: int = 0) -> tuple[Decisions, np.ndarray]:
        """The decisions whose window has closed before `day` but not before `since`, and whether each converted.

        All mature after the longest window, whatever was shown: to wait longer for some offers would leave a sample
        that depends on what was shown.
        """
        within = self.world.within
        found = self._of(lambda made: since <= made + within < day)
        return found, (found.converts_on <= found.day + within).astype(float)

    def open(self, day: int) -> tuple[Decisions, np.ndarray]:
        """The decisions before `day` that have not matured, and whether each has been seen to convert by then."""
        found = self._of(lambda made: day <= made + self.world.within and made < day)
        return found, (found.converts_on < day).astype(float)

    def _of(self, wanted: Callable[[int], bool]) -> Decisions:
        """The decisions of some days."""
        parts = [part for part in self.parts if len(part) and wanted(int(part.day[0]))]
        if not parts:
            return self.parts[0].take(np.zeros(0, np.intp))
        return Decisions(*(np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS))


def fresh(world: World, log: Log, day: int) -> Fresh | None:
    """Open decisions to learn from, their positives weighted 1/Ĝ(age); None where nothing tells how long they take."""
    (known, conversion), (made, seen) = log.matured(day), log.open(day)
    late = np.flatnonzero(conversion)
    if not len(made) or not len(late):
        return None
    groups = tuple(world.catalog.offers[name].group for name in world.offers)
    wait = (known.converts_on - known.day)[late] / world.within
    share = Delays(known.action[late], wait, groups).seen(made.action, (day - made.day) / world.within)
    return Fresh(
        user=made.user,
        surface=made.surface,
        action=made.action,
        probability=made.probability,
        eligible=world.may(made.user, made.surface),
        conversion=seen,
        weight=np.where(seen > 0, 1.0 / share, 1.0),
        facts=world.facts(made.day, made.user, made.seen),
    )


def logged(
    world: World,
    made: Decisions,
    conversion: np.ndarray,
    *,
    net: np.ndarray | None = None,
    fresh: Fresh | None = None,
) -> Logged:
    """Matured decisions as training and evaluation take them; `net` replaces the offers' value net of cost."""
    offers = [world.catalog.offers[name] for name in world.offers]
    net = world.net if net is None else net
    outcomes = {"convert": conversion}
    if len(set(net)) > 1:
        outcomes[NET_VALUE] = conversion * net[made.action]
    return Logged(
        arms=world.offers,
        groups=tuple(offer.group for offer in offers),
        net=net,
        priority=np.zeros(len(offers)),
        surfaces=world.surfaces,
        user=made.user,
        surface=made.surface,
        action=made.action,
        probability=made.probability,
        eligible=world.may(made.user, made.surface),
        conversion=conversion,
        primary="convert",
        outcomes=outcomes,
        facts=world.facts(made.day, made.user, made.seen),
        start=float(made.day.min(initial=0)) * DAY,
        end=float(made.day.max(initial=0)) * DAY,
        immature=0 if fresh is None else len(fresh.action),
        fresh=fresh,
    )
