"""The fragments of the catalog's JSON Schema: scalars, names, numbers within bounds, and conditions over features."""

from collections.abc import Collection
from typing import Any

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.catalog_conditions import COMBINERS, OPERATORS

Schema = dict[str, Any]

TEXT: Schema = {"type": ["string", "number"]}
NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,79}"
PLAIN: Schema = {**TEXT, "pattern": f"^{NAME}$"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
DURATION: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d|w)$"}
DATE: Schema = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}"}
CLOCK: Schema = {"type": "string", "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$"}
CONDITION: Schema = {"$ref": "#/definitions/condition"}


def or_nothing(fragment: Schema) -> Schema:
    return {"anyOf": [fragment, {"type": "null"}]}


def one_of(names: Collection[str]) -> Schema:
    return {"enum": [spelling for name in names for spelling in _spellings(name)]}


def _spellings(name: str) -> list[str | int]:
    """A name, and the number that an editor takes it for."""
    name = str(name)  # of an enumeration
    return [name, int(name)] if name.isascii() and name.isdigit() and str(int(name)) == name else [name]


def some(fragment: Schema) -> Schema:
    """One, or a list of them."""
    return {"anyOf": [fragment, {"type": "array", "items": fragment, "minItems": 1}]}


def between(low: float | None = None, high: float | None = None, above: float | None = None) -> Schema:
    bounds = {"minimum": low, "maximum": high, "exclusiveMinimum": above}
    return {"type": "number", **{name: bound for name, bound in bounds.items() if bound is not None}}


def whole(low: int | None = None, high: int | None = None) -> Schema:
    return {**between(low, high), "type": "integer"}


# --- Conditions -------------------------------------------------------------------------------------------------------


def condition(catalog: Catalog | None) -> Schema:
    several = {"type": "array", "items": CONDITION, "minItems": 1}
    properties: Schema = {name: audience(catalog) if name == "audience" else several for name in COMBINERS}
    if catalog is None:
        anything = {"anyOf": [test for kind in FeatureType for test in _test(FeatureSpec("", kind))["anyOf"]]}
        return {"type": "object", "minProperties": 1, "properties": properties, "additionalProperties": anything}
    properties |= {spec.name: _test(spec) for spec in catalog.features.values()}
    return {"type": "object", "minProperties": 1, "properties": properties, "additionalProperties": False}


def audience(catalog: Catalog | None) -> Schema:
    return some(one_of(sorted(catalog.audiences)) if catalog else TEXT)


def _value(spec: FeatureSpec) -> Schema:
    """One value of a feature; one member of a set."""
    if spec.values:
        return one_of(spec.values)
    return {
        FeatureType.BOOL: FLAG,
        FeatureType.INT: whole(),
        FeatureType.FLOAT: NUMBER,
        FeatureType.TIME: DATE,
    }.get(spec.type, TEXT)


def whole_value(spec: FeatureSpec) -> Schema:
    if spec.type is not FeatureType.SET:
        return _value(spec)
    return {"anyOf": [_value(spec), {"type": "array", "items": _value(spec)}]}


def _test(spec: FeatureSpec) -> Schema:
    operators = {operator: _operand(spec, operator) for operator in OPERATORS[spec.type]}
    tests: Schema = {"type": "object", "minProperties": 1, "properties": operators, "additionalProperties": False}
    return {"anyOf": [tests] if spec.type is FeatureType.SET else [*some(_value(spec))["anyOf"], tests]}


def _operand(spec: FeatureSpec, operator: str) -> Schema:
    match operator:
        case "missing":
            return FLAG
        case "within" | "older_than":
            return DURATION
        case "version_min" | "version_below":
            return TEXT
        case "not" | "has" | "has_any" | "lacks":
            return some(_value(spec))
    return _value(spec)
