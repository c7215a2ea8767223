"""What followed recorded decisions, from the event log: conversions inside their windows, in money."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import msgspec

from decisioning.catalog import Catalog
from decisioning.domain import NOTHING
from stores.log.decision_log import decode_event
from stores.log.reader import read

SKEW = 300.0
"""Seconds by which a client's clock may lag: what it dates so little before its decision followed it all the same."""

Followed = tuple[str, str, float]
"""An event's type, offer and moment."""


@dataclass(frozen=True)
class Outcomes:
    """The conversions of a log by decision, each event once."""

    by_decision: Mapping[str, tuple[Followed, ...]] = field(default_factory=dict)
    until: float = -inf
    """The latest moment among all events."""
    torn: int = 0
    """Lines that are no events."""


def read_outcomes(folder: Path, types: Iterable[str]) -> Outcomes:
    """The events of these types in a log folder. Memory grows with them alone, not with impressions."""
    marks = [f'"type":"{kind}"'.encode() for kind in sorted(set(types))]
    found: dict[str, dict[str, Followed]] = {}
    until, torn = -inf, 0
    for line in read(folder):
        if not any(mark in line for mark in marks):
            continue
        try:
            event = decode_event(line)
        except (msgspec.MsgspecError, ValueError):
            torn += 1
            continue
        until = max(until, event.at)
        found.setdefault(event.decision_id, {}).setdefault(event.event_id, (event.type, event.offer, event.at))
    return Outcomes({decision: tuple(events.values()) for decision, events in found.items()}, until, torn)


def conversion_types(*catalogs: Catalog) -> frozenset[str]:
    """The types of event that some offer of these catalogs converts on."""
    return frozenset(
        str(catalog.group(offer.group).converts_on) for catalog in catalogs for offer in catalog.offers.values()
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    types: frozenset[str]
    within: float
    net: float


class Rewards:
    """What conversions count, and for how much, by the first of some catalogs that has the offer.

    NOTHING converts on what the surface's offers do, within the shortest of their windows, and is worth their mean.
    """

    def __init__(self, outcomes: Outcomes, until: float, *catalogs: Catalog) -> None:
        """`until` is the moment up to which outcomes are known."""
        self._outcomes, self._until = outcomes.by_decision, until
        self._rules: dict[str, _Rule] = {}
        windows: dict[str, float] = {}
        nothing: dict[str, list[_Rule]] = {}
        for catalog in catalogs:
            for name, offer in catalog.offers.items():
                group = catalog.group(offer.group)
                rule = _Rule(frozenset({str(group.converts_on)}), group.within, offer.score.net)
                rule = self._rules.setdefault(name, rule)
                for surface in offer.surfaces:
                    windows[surface] = max(windows.get(surface, 0.0), rule.within)
                    nothing.setdefault(surface, []).append(rule)
        self._windows = windows
        self._nothing = {surface: _together(rules) for surface, rules in nothing.items()}
        self.longest = max(windows.values(), default=0.0)
        """Seconds of the longest window."""

    def has_matured(self, surface: str, at: float) -> bool:
        """Whether the window of whatever might have been shown has closed: the choice itself has no say in it."""
        return at + self._windows.get(surface, 0.0) <= self._until

    def net(self, offer: str) -> float:
        """Value net of cost per conversion; 0 for one that no catalog knows."""
        rule = self._rules.get(offer)
        return rule.net if rule else 0.0

    def of(self, decision_id: str, surface: str, offer: str, at: float) -> float:
        """The net value that followed from what was shown first: an event counts for its own offer alone."""
        followed = self._outcomes.get(decision_id)
        if followed is None:
            return 0.0
        rule = self._nothing.get(surface) if offer == NOTHING else self._rules.get(offer)
        if rule is None:
            return 0.0
        converted = any(
            kind in rule.types and shown == offer and -SKEW <= moment - at <= rule.within
            for kind, shown, moment in followed
        )
        return rule.net if converted else 0.0


def _together(rules: list[_Rule]) -> _Rule:
    nets = [rule.net for rule in rules]
    types = frozenset[str]().union(*(rule.types for rule in rules))
    return _Rule(types, min(rule.within for rule in rules), sum(nets) / len(nets))
