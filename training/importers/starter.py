"""A catalog to start from: what imported logs show of surfaces, offers and features, for people to edit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import NOTHING, EventType
from decisioning.errors import UserError
from features.catalog_text import catalog_features_yaml, quoted
from features.schema import Schema
from stores.tables import Tables

MODEL = "propensity"
USUAL = (str(EventType.CONVERT), "conversion")


@dataclass(frozen=True, slots=True)
class OfferFacts:
    """What is known of an offer besides its name."""

    group: str = "offers"
    value: float = 1.0
    cost: float = 0.0
    attributes: Mapping[str, float | str] = field(default_factory=dict)


def conversion_type(outcome_types: Sequence[str], chosen: str | None) -> str:
    """The outcome type that counts as a conversion: the chosen one, the only one, or the one of the usual name.

    Raises UserError where the choice is not among the types, or nothing is chosen and several could be meant.
    """
    types = sorted(set(outcome_types))
    if chosen is not None:
        if types and chosen not in types:
            raise UserError(f"No outcome is of the type {chosen}: the outcomes have {', '.join(types)}.")
        return chosen
    usual = [name for name in USUAL if name in types]
    if not types or usual or len(types) == 1:
        return (usual or types or USUAL)[0]
    raise UserError(f"Which outcome counts as a conversion? Say --converts-on with one of {', '.join(types)}.")


def values_of(tables: Tables, converts_on: str) -> dict[str, float]:
    """What a conversion to each offer was worth on average, where the outcomes say it."""
    outcomes = tables.outcomes[(tables.outcomes["type"] == converts_on) & tables.outcomes["value"].notna()]
    shown = outcomes.merge(tables.decisions[["decision_id", "offer"]], on="decision_id")
    means = shown[shown["offer"] != NOTHING].groupby("offer")["value"].mean()
    return {str(name): round(float(value), 2) for name, value in means.items() if value > 0}


def starter_catalog(
    schema: Schema, decisions: pd.DataFrame, offers: Mapping[str, OfferFacts], converts_on: str
) -> dict[str, bytes]:
    """The files of a catalog that holds every surface and offer of the decisions, checked by `load_catalog`.

    Raises UserError (as CatalogError) with everything that a catalog can't hold, such as an offer named with spaces.
    """
    places = _places(decisions)
    silent = set(places.get(NOTHING, ()))
    places.pop(NOTHING, None)
    if not places:
        raise UserError(f"Every decision shows {NOTHING}: there is no offer to learn about.")
    known = {name: offers.get(name, OfferFacts()) for name in sorted(places)}
    texts = {
        "features.yaml": catalog_features_yaml(schema.specs),
        "surfaces.yaml": _surfaces_yaml(sorted(set(decisions["surface"])), silent),
        "offers.yaml": _offers_yaml(known, places, converts_on),
    }
    files = {name: text.encode() for name, text in texts.items()}
    load_catalog(files)
    return files


def _places(decisions: pd.DataFrame) -> dict[str, list[str]]:
    """Each offer that was shown or could have been, and its surfaces."""
    pairs = set(zip(decisions["offer"], decisions["surface"], strict=True))
    if "eligible" in decisions.columns:
        listed = decisions[["surface", "eligible"]].dropna().explode("eligible").drop_duplicates()
        pairs |= set(zip(listed["eligible"].astype(str), listed["surface"], strict=True))
    places: dict[str, list[str]] = {}
    for offer, surface in sorted(pairs):
        places.setdefault(offer, []).append(surface)
    return places


def _surfaces_yaml(surfaces: Sequence[str], silent: set[str]) -> str:
    lines = [
        f"  {quoted(name)}: {{slots: 1, fallback: null{', allow_nothing: true' if name in silent else ''}}}"
        for name in surfaces
    ]
    return "surfaces:\n" + "\n".join(lines) + "\n"


def _offers_yaml(offers: Mapping[str, OfferFacts], places: Mapping[str, Sequence[str]], converts_on: str) -> str:
    groups = sorted({facts.group for facts in offers.values()})
    lines = ["groups:", *(f"  {quoted(name)}: {{converts_on: {quoted(converts_on)}, within: 14d}}" for name in groups)]
    lines.append("offers:")
    for name, facts in offers.items():
        lines += [
            f"  {quoted(name)}:",
            "    owner: imported",
            f"    group: {quoted(facts.group)}",
            f"    surfaces: [{', '.join(map(quoted, places[name]))}]",
            f"    score: {{model: {MODEL}, value: {facts.value:.12g}, cost: {facts.cost:.12g}}}",
        ]
        if facts.attributes:
            pairs = (f"{quoted(key)}: {_attribute(value)}" for key, value in facts.attributes.items())
            lines.append(f"    attributes: {{{', '.join(pairs)}}}")
    return "\n".join(lines) + "\n"


def _attribute(value: float | str) -> str:
    return quoted(value) if isinstance(value, str) else f"{value:.12g}"
