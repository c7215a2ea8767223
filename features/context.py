"""The context of a request: from JSON, or from a row of a file, to the values that the catalog declares."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

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


class ContextReader:
    """Reads the contexts that are sent for one catalog. It is made once, and costs a context some tenths of a
    microsecond a value.

    Only features `from: context` may be sent: a client can't overwrite what a snapshot says.
    """

    __slots__ = ("known",)

    known: "dict[str, _Known]"
    """The features that may be sent, by name."""

    def __init__(self, catalog: Catalog) -> None:
        self.known = {one.name: _known(one) for one in catalog.features.values() if one.from_context}

    def read(self, sent: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[str, ...]]:
        """The declared values of a context, and what was left out of it, counted for `degraded`.

        An enum's or a set's value that the catalog doesn't declare counts as missing, as in a snapshot. Raises
        ContextError for a declared feature of another type.
        """
        values: dict[str, Value] = {}
        unknown = undeclared = 0
        for name, found in sent.items():
            known = self.known.get(name)
            if known is None:
                unknown += 1
            elif found is not None:
                _, typed, expected, declared, plain = known
                if type(found) is plain and (plain is not str or len(found) <= MAX_TEXT):
                    value = found
                elif (value := typed(found)) is None:
                    raise ContextError(name, expected)
                if declared is not None:
                    if isinstance(value, frozenset):
                        if not value <= declared:
                            undeclared += 1
                            value = value & declared
                    elif value not in declared:
                        undeclared += 1
                        continue
                values[name] = value
        if not unknown and not undeclared:
            return values, ()
        counts = (("context:unknown_names", unknown), ("context:undeclared_values", undeclared))
        return values, tuple(f"{what}:{count}" for what, count in counts if count)


class _Known(NamedTuple):
    kind: FeatureType
    typed: Callable[[Any], Value]
    expected: str
    declared: frozenset[str] | None
    """The values that an enum or the members that a set may have."""
    plain: type | None
    """A type of which values, and texts that are not too long, are taken as they are."""


_PLAIN = {FeatureType.BOOL: bool, FeatureType.FLOAT: float, FeatureType.ENUM: str, FeatureType.TEXT: str}


def _known(spec: FeatureSpec) -> _Known:
    declared = frozenset(spec.values) if spec.type in (FeatureType.ENUM, FeatureType.SET) else None
    return _Known(spec.type, _TYPED[spec.type], _EXPECTED[spec.type], declared, _PLAIN.get(spec.type))


# --- A value from JSON as one of a type; None where it is none ---


def _bool(found: object) -> bool | None:
    return found if isinstance(found, bool) else None


def _int(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) <= MAX_INT else None


def _float(found: object) -> float | None:
    if isinstance(found, float):
        return found
    whole = _int(found)
    return None if whole is None else float(whole)


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and len(found) <= MAX_TEXT else None


def _set(found: object) -> frozenset[str] | None:
    if isinstance(found, list) and len(found) <= MAX_MEMBERS and all(isinstance(one, str) for one in found):
        return frozenset(found)
    return None


def _time(found: object) -> float | None:
    if not isinstance(found, str):
        return _float(found)
    try:
        moment = msgspec.convert(found, datetime)
    except msgspec.ValidationError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()


_TYPED: dict[FeatureType, Callable[[Any], Value]] = {
    FeatureType.BOOL: _bool,
    FeatureType.INT: _int,
    FeatureType.FLOAT: _float,
    FeatureType.ENUM: _text,
    FeatureType.SET: _set,
    FeatureType.TIME: _time,
    FeatureType.TEXT: _text,
}
