"""What the rules of a Catalog say: guards, caps, budgets, levers and the like, each with the offers that it speaks of.

Durations are seconds, times are epoch seconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from decisioning.conditions import Condition
from decisioning.domain import NOWHERE, EventType, Place


@dataclass(frozen=True, slots=True)
class Scope:
    """Which offers a rule speaks of. Empty sets mean "any"; `only` and `except` combine."""

    only_offers: frozenset[str] = frozenset()
    only_groups: frozenset[str] = frozenset()
    only_surfaces: frozenset[str] = frozenset()
    except_offers: frozenset[str] = frozenset()
    except_groups: frozenset[str] = frozenset()
    except_surfaces: frozenset[str] = frozenset()

    def covers(self, offer: str, group: str, surface: str) -> bool:
        return not (
            (self.only_offers and offer not in self.only_offers)
            or (self.only_groups and group not in self.only_groups)
            or (self.only_surfaces and surface not in self.only_surfaces)
            or offer in self.except_offers
            or group in self.except_groups
            or surface in self.except_surfaces
        )


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Guard:
    """Blocks an offer unless `allows` holds (`require`), or where `blocks` does (`block_if`)."""

    name: str
    scope: Scope
    allows: Condition | None = None
    blocks: Condition | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Invariant:
    """Offers that may never be shown to users for whom `when` holds, whatever else the rules say."""

    name: str
    when: Condition
    never: Scope
    place: Place = NOWHERE


class Same(StrEnum):
    """How far a past event reaches: to its offer, its offer's group, or everything."""

    OFFER = "offer"
    GROUP = "group"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Suppression:
    """After `count` events of a type within `within` seconds, silence for `lasts` seconds from the last of them."""

    name: str
    after: str
    lasts: float
    count: int = 1
    within: float | None = None
    same: Same = Same.OFFER
    scope: Scope = EVERYTHING
    place: Place = NOWHERE


class CapBy(StrEnum):
    OFFER = "offer"
    GROUP = "group"
    SURFACE = "surface"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `max` events of a type in any window of `per` seconds, per user and per what `by` names."""

    name: str
    max: int
    per: float
    by: CapBy
    counts: str = EventType.IMPRESSION
    """A type of event, or DECISION."""
    scope: Scope = EVERYTHING
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Budget:
    name: str
    offers: frozenset[str]
    impressions: int
    until: float | None = None
    starts: float | None = None
    even: bool = False
    """Paced evenly from `starts` to `until` instead of spent as fast as it goes."""
    hard: bool = True
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class QuietHours:
    name: str
    surfaces: frozenset[str]
    start: int
    """Minutes after midnight."""
    end: int
    timezone: str | None = None
    """An IANA name; None for the user's own, from the context feature `timezone`, else UTC."""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Once one of these offers was shown, the others stay away for `lasts` seconds; and they never share a slate."""

    name: str
    offers: frozenset[str]
    lasts: float
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Lever:
    name: str
    scope: Scope
    times: float
    until: float
    owner: str
    why: str
    starts: float | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class ContextWeight:
    """Multiplies the scores of the offers in its scope for whoever `when` holds; `lever_bounds` don't bind it."""

    name: str
    scope: Scope
    when: Condition
    times: float
    owner: str
    why: str
    place: Place = NOWHERE
