"""The catalog's language as a JSON Schema (draft-07), for completion and first checks in editors.

Our own checker gives the errors: a schema can't know that a range is empty or that an invariant is proved. It knows the
names of one catalog where it is made from one. Scalars are as YAML 1.2 reads them: `NO` and `22:00` are text.
"""

from collections.abc import Mapping

from decisioning.catalog import Catalog, Factor, FeatureType
from decisioning.catalog_experiments import SETTINGS
from decisioning.catalog_keys import KEYS, NAMED, SCOPED, SINGLE
from decisioning.catalog_offers import MOST_MONEY
from decisioning.domain import DECISION, EventType
from decisioning.rules import CapBy, Same
from decisioning.schema_fragments import (
    CLOCK,
    CONDITION,
    DATE,
    DURATION,
    FLAG,
    NAME,
    NUMBER,
    PLAIN,
    TEXT,
    Schema,
    audience,
    between,
    condition,
    one_of,
    or_nothing,
    some,
    whole,
    whole_value,
)

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "features": ("type",),
    "surfaces": ("fallback",),
    "offers": ("owner", "group", "surfaces"),
    "offers.creative": ("key",),
    "invariants": ("when", "never"),
    "suppress": ("after", "for"),
    "caps": ("max", "per", "by"),
    "budgets": ("offers", "impressions"),
    "quiet_hours": ("surfaces", "from", "to"),
    "exclusive": ("offers", "for"),
    "levers": ("times", "until", "owner", "why"),
    "context_weights": ("when", "times", "owner", "why"),
    "holdouts": ("percent", "salt"),
    "experiments": ("layer", "arms"),
    "experiments.arms": ("percent",),
    "ablations": ("percent",),
    "tests": ("name", "on", "expect"),
}


def catalog_schema(catalog: Catalog | None = None) -> Schema:
    """The schema of one file of a catalog folder; with the features and other names of a catalog where one is given."""
    kinds = {kind: _mapping(kind, fields) for kind, fields in _fields(catalog).items()}
    sections: Schema = {section: {"type": "object", "additionalProperties": kinds[section]} for section in NAMED[2:]}
    sections |= {
        "features": {"type": "object", "additionalProperties": kinds["features"]},
        "audiences": {"type": "object", "additionalProperties": CONDITION},
        "tests": {"type": "array", "items": kinds["tests"]},
        "currency": {"type": "string"},
        **{section: kinds[section] for section in SINGLE if section in kinds},
    }
    for section in NAMED:
        sections[section]["propertyNames"] = {"pattern": f"^{NAME}$"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Segue catalog",
        "type": "object",
        "properties": {section: or_nothing(fragment) for section, fragment in sections.items()},
        "additionalProperties": False,
        "definitions": {"condition": condition(catalog)},
    }


def _mapping(kind: str, fields: Mapping[str, Schema]) -> Schema:
    required = {"required": list(REQUIRED[kind])} if kind in REQUIRED else {}
    return {"type": "object", "properties": {**fields}, "additionalProperties": False, **required}


# --- The keys of each kind --------------------------------------------------------------------------------------------


class _Names:
    """What may be named where: the names of a catalog, or any text."""

    def __init__(self, catalog: Catalog | None) -> None:
        self.catalog = catalog
        self.offer = one_of(sorted(catalog.offers)) if catalog else TEXT
        self.surface = one_of(sorted(catalog.surfaces)) if catalog else TEXT
        self.group = one_of(sorted(catalog.groups)) if catalog and catalog.groups else TEXT
        events = {*EventType, *(group.converts_on for group in catalog.groups.values())} if catalog else set()
        self.event = one_of(sorted(events)) if catalog else TEXT
        self.counted = one_of(sorted({*events, DECISION})) if catalog else TEXT
        scope = {"offer": some(self.offer), "group": some(self.group), "surface": some(self.surface)}
        self.scope = {**_mapping("scope", scope), "minProperties": 1}
        self.scoped = dict.fromkeys(SCOPED, self.scope)


def _fields(catalog: Catalog | None) -> dict[str, dict[str, Schema]]:
    """The fragment of every key of `KEYS`."""
    names = _Names(catalog)
    found = {**_things(names), **_rules(names), **_factors(names), **_trials(names), **_tests(names)}
    return {kind: {key: found[kind][key] for key in keys} for kind, keys in KEYS.items()}


def _things(names: _Names) -> dict[str, dict[str, Schema]]:
    live: dict[str, Schema] = {"from": DATE, "until": DATE}
    score = {"model": PLAIN, "value": between(0, MOST_MONEY), "cost": between(0, MOST_MONEY), "prior": between(0, 1)}
    creative = {"key": TEXT, "locales": some(TEXT), "fallback_locale": TEXT}
    return {
        "features": {
            "type": one_of(tuple(FeatureType)),
            "values": some(TEXT),
            "default": {},
            "max_age": DURATION,
            "if_missing": one_of(["block"]),
            "from": one_of(["context", "snapshot"]),
            "unit": TEXT,
            "counts": names.event,
        },
        "groups": {"converts_on": TEXT, "within": DURATION},
        "surfaces": {
            "slots": whole(1, 100),
            "fallback": or_nothing(names.offer),
            "min_score": NUMBER,
            "min_p_convert": between(0, 1),
            "deadline": DURATION,
            "allow_nothing": FLAG,
            "max_per_group": whole(1),
            "diversity": one_of(["group"]),
            "sticky": DURATION,
        },
        "offers": {
            "owner": TEXT,
            "group": names.group,
            "surfaces": {"anyOf": [names.surface, {"type": "array", "items": names.surface}]},
            "live": _mapping("offers.live", live),
            "score": _mapping("offers.score", score),
            "attributes": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
            "eligible": CONDITION,
            "creative": _mapping("offers.creative", creative),
            "priority": whole(-1000, 1000),
        },
        "offers.live": live,
        "offers.score": score,
        "offers.creative": creative,
    }


def _rules(names: _Names) -> dict[str, dict[str, Schema]]:
    counts = {"type": "object", "minProperties": 1, "additionalProperties": whole(1)}
    counts["properties"] = {"within": DURATION}
    return {
        "scope": names.scope["properties"],
        "guards": {"require": CONDITION, "block_if": CONDITION, **names.scoped},
        "invariants": {"when": CONDITION, "never": names.scope},
        "suppress": {
            "after": {"anyOf": [names.event, counts]},
            "same": one_of(tuple(Same)),
            "for": DURATION,
            **names.scoped,
        },
        "caps": {
            "max": whole(0),
            "per": DURATION,
            "by": one_of(tuple(CapBy)),
            "counts": names.counted,
            **names.scoped,
        },
        "budgets": {
            "offers": some(names.offer),
            "impressions": whole(1),
            "from": DATE,
            "until": DATE,
            "pace": one_of(["even", "fast"]),
            "hard": FLAG,
        },
        "quiet_hours": {"surfaces": some(names.surface), "from": CLOCK, "to": CLOCK, "timezone": TEXT},
        "exclusive": {"offers": some(names.offer), "for": DURATION},
    }


def _factors(names: _Names) -> dict[str, dict[str, Schema]]:
    person = {"owner": TEXT, "why": TEXT}
    return {
        "levers": {**names.scoped, "times": between(above=0), "from": DATE, "until": DATE, **person},
        "lever_bounds": {"min": between(above=0, high=1), "max": between(1)},
        "context_weights": {**names.scoped, "when": CONDITION, "times": between(above=0, high=100), **person},
        "arbitration": {
            "order": {"type": "array", "items": one_of(["priority", "score"])},
            "tie_break": one_of(["hash"]),
        },
    }


def _trials(names: _Names) -> dict[str, dict[str, Schema]]:
    paths = {rf"^{section}\.{NAME}\.{what.replace('.', '[.]')}$": NUMBER for section, what in SETTINGS}
    settings: Schema = {"type": "object", "patternProperties": paths, "additionalProperties": False}
    arm = {"percent": between(0, 100), "set": settings}
    return {
        "holdouts": {
            "percent": between(above=0, high=100),
            "salt": TEXT,
            "show": one_of(["best_single_offer"]),
            "surfaces": some(names.surface),
        },
        "experiments": {
            "layer": PLAIN,
            "audience": {"anyOf": [audience(names.catalog), CONDITION]},
            "percent": between(above=0, high=100),
            "starts_at": between(0, 100),
            "arms": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": _mapping("experiments.arms", arm),
            },
        },
        "experiments.arms": arm,
        "ablations": {"percent": between(above=0, high=100 / len(Factor)), "factors": some(one_of(tuple(Factor)))},
        "exploration": {"uniform": between(0, 1), "challenger": between(0, 1)},
    }


def _tests(names: _Names) -> dict[str, dict[str, Schema]]:
    catalog = names.catalog
    past = {"type": "object", "required": ["ago"], "additionalProperties": names.offer}
    past["properties"] = {"ago": DURATION}
    given = {"history": {"type": "array", "items": past}, "now": DATE}
    facts = {spec.name: whole_value(spec) for spec in catalog.features.values()} if catalog else {}
    because = {"type": "object", "additionalProperties": TEXT}
    expect = {
        "never": some(names.offer),
        "eligible": some(names.offer),
        "because": {**because, "propertyNames": names.offer} if catalog else because,
    }
    return {
        "tests": {
            "name": TEXT,
            "given": {**_mapping("tests.given", {**given, **facts}), "additionalProperties": catalog is None},
            "on": names.surface,
            "expect": {**_mapping("tests.expect", expect), "minProperties": 1},
        },
        "tests.given": given,
        "tests.expect": expect,
    }
