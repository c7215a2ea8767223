"""What of a catalog reads a feature: the rules that name it, each with its place and its words."""

from collections.abc import Iterator
from dataclasses import dataclass

from decisioning.catalog import Catalog
from decisioning.conditions import Condition, conjuncts, reads
from decisioning.domain import Place
from decisioning.words import words

TIMEZONE = "timezone"
"""The feature that quiet hours read where they name no zone of their own."""


@dataclass(frozen=True, slots=True)
class Use:
    """One rule, and what of it speaks of the feature."""

    kind: str
    """offer, guard, invariant, context weight, experiment, audience or quiet hours."""
    name: str
    says: str
    place: Place

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "says": self.says, "place": str(self.place)}


def uses(catalog: Catalog, feature: str) -> tuple[Use, ...]:
    """Every rule that reads the feature, kind by kind. What an audience says, its readers say too."""
    told = [
        Use(kind, name, "; ".join(map(words, parts)), place)
        for kind, name, condition, place in _conditions(catalog)
        if (parts := [part for part in conjuncts(condition) if feature in reads(part)])
    ]
    if feature == TIMEZONE:
        silent = [one for one in catalog.quiet_hours if one.timezone is None]
        told += [Use("quiet hours", one.name, "in the user's own time zone", one.place) for one in silent]
    return tuple(told)


def _conditions(catalog: Catalog) -> Iterator[tuple[str, str, Condition, Place]]:
    for offer in catalog.offers.values():
        if offer.eligible is not None:
            yield "offer", offer.name, offer.eligible, offer.place
    for guard in catalog.guards:
        for condition in (guard.allows, guard.blocks):
            if condition is not None:
                yield "guard", guard.name, condition, guard.place
    for rule in (*catalog.invariants, *catalog.context_weights):
        kind = "invariant" if rule in catalog.invariants else "context weight"
        yield kind, rule.name, rule.when, rule.place
    for experiment in catalog.experiments:
        if experiment.audience is not None:
            yield "experiment", experiment.name, experiment.audience, experiment.place
    for name, audience in catalog.audiences.items():
        yield "audience", name, audience, audience.place
