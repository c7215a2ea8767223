"""The context of a request: from JSON, or from a row of a file, to the values that the catalog declares."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.domain import Value

MAX_INT = 2**53
"""Whole numbers up to here are exact in JavaScript, in float64 and in every log."""
MAX_TEXT = 256
MAX_MEMBERS = 256


class ContextError(ValueError):
    """A value of another type than the catalog declares."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"{name} is wrong: expected {expected}.")
        self.name, self.expected = name, expected


_EXPECTED = {
    FeatureType.BOOL: "true or false",
    FeatureType.INT: "a whole number of at most 2^53",
    FeatureType.FLOAT: "a number",
    FeatureType.ENUM: "a text of at most 256 characters",
    FeatureType.SET: "a list of at most 256 texts",
    FeatureType.TIME: "RFC 3339 with a time zone, or seconds since 1970",
    FeatureType.TEXT: "a text of at most 256 characters",
}


def read_context(catalog: Catalog, sent: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The declared values of a context, and what was left out of it, counted for `degraded`.

    Only features `from: context` may be sent: a client can't overwrite what a snapshot says. An enum's or a set's
    value that the catalog doesn't declare counts as missing, as in a snapshot. Raises ContextError for a declared
    feature of another type.
    """
    values: dict[str, Value] = {}
    unknown = undeclared = 0
    for name, found in sent.items():
        spec = catalog.features.get(name)
        if spec is None or not spec.from_context:
            unknown += 1
        elif found is not None:
            value = _typed(spec, found)
            if not _is_declared(spec, value):
                undeclared += 1
                value = value & frozenset(spec.values) if isinstance(value, frozenset) else None
            if value is not None:
                values[spec.name] = value
    counts = (("context:unknown_names", unknown), ("context:undeclared_values", undeclared))
    return values, tuple(f"{what}:{count}" for what, count in counts if count)


def _is_declared(spec: FeatureSpec, value: Value) -> bool:
    if spec.type is FeatureType.ENUM:
        return value in spec.values
    return not isinstance(value, frozenset) or value <= frozenset(spec.values)


def _typed(spec: FeatureSpec, found: object) -> Value:
    match spec.type, found:
        case FeatureType.BOOL, bool():
            return found
        case ((FeatureType.INT | FeatureType.FLOAT | FeatureType.TIME), bool()):
            pass
        case FeatureType.INT, int() if abs(found) <= MAX_INT:
            return found
        case ((FeatureType.FLOAT | FeatureType.TIME), float()):
            return found
        case ((FeatureType.FLOAT | FeatureType.TIME), int()) if abs(found) <= MAX_INT:
            return float(found)
        case FeatureType.TIME, str():
            return _moment(spec, found)
        case ((FeatureType.ENUM | FeatureType.TEXT), str()) if len(found) <= MAX_TEXT:
            return found
        case FeatureType.SET, list() if len(found) <= MAX_MEMBERS and all(isinstance(one, str) for one in found):
            return frozenset(found)
    raise _wrong(spec)


def _moment(spec: FeatureSpec, text: str) -> float:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise _wrong(spec) from None
    if moment.tzinfo is None:
        raise _wrong(spec)
    return moment.timestamp()


def _wrong(spec: FeatureSpec) -> ContextError:
    return ContextError(spec.name, _EXPECTED[spec.type])
