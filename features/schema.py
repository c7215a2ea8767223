"""The layout of a user's packed vector: which feature stands where, and how a value becomes a float32 and back.

Serving imports this module: numpy only. Missing is NaN in a vector and an absent key in a mapping, never the other way
round. enum → index of the declared value; bool → 0 or 1; set → a bit mask; time → whole minutes since 2020.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import floor, isfinite, nan
from struct import Struct
from typing import Any

import numpy as np

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Value
from decisioning.errors import UserError
from features.unpacking import Unpacker, unpacker

MINUTES_FROM = 1_577_836_800.0
"""2020-01-01T00:00Z in epoch seconds. Minutes since then are exact in float32 until November 2051."""

MAX_SET_VALUES = 24
"""A float32 holds whole numbers exactly up to 2²⁴, so a bit mask has at most 24 bits."""

TAG_BYTES = 4

FLOAT32_MAX = float(np.finfo(np.float32).max)


def encode(spec: FeatureSpec, value: Value) -> float:
    """The number that stands for a value in vectors and in frames for models; NaN for a missing one.

    A value that is not declared (an enum's new value) and a number beyond float32 count as missing; unknown
    members of a set are left out. Raises ValueError for a value of another type.
    """
    if value is None:
        return nan
    match spec.type, value:
        case FeatureType.ENUM, str():
            return float(spec.values.index(value)) if value in spec.values else nan
        case FeatureType.SET, frozenset():
            return float(sum(1 << bit for bit, member in enumerate(spec.values) if member in value))
        case FeatureType.BOOL, bool() | int():
            return float(bool(value))
        case FeatureType.INT | FeatureType.FLOAT, int() | float():
            return _within_float32(value)
        case FeatureType.TIME, int() | float():
            return _within_float32(floor((value - MINUTES_FROM) / 60.0)) if isfinite(value) else nan
    raise ValueError(f"{spec.name} is declared {spec.type}, and can't hold {type(value).__name__} {value!r}.")


def decode(spec: FeatureSpec, number: float) -> Value:
    """The value that a number stands for; None where it is NaN, infinite, or not a code of this feature."""
    if not isfinite(number):
        return None
    match spec.type:
        case FeatureType.FLOAT:
            return number
        case FeatureType.INT:
            return round(number)
        case FeatureType.BOOL:
            return number != 0.0
        case FeatureType.ENUM:
            return spec.values[int(number)] if 0 <= number < len(spec.values) else None
        case FeatureType.SET:
            mask = int(number)
            return frozenset(member for bit, member in enumerate(spec.values) if mask >> bit & 1) if mask >= 0 else None
        case FeatureType.TIME:
            return MINUTES_FROM + 60.0 * number
    return None


def _within_float32(number: float) -> float:
    return float(number) if -FLOAT32_MAX <= number <= FLOAT32_MAX else nan


@dataclass(frozen=True)
class Schema:
    """The features of a snapshot, sorted by name whatever order they are given in; those from the context drop out.

    Raises UserError for a name declared twice, for text (which no vector can hold), and for a set of over 24 values.
    """

    specs: tuple[FeatureSpec, ...]

    def __post_init__(self) -> None:
        kept = sorted((spec for spec in self.specs if not spec.from_context), key=lambda spec: spec.name)
        for before, spec in zip([None, *kept], kept, strict=False):
            if before is not None and before.name == spec.name:
                raise UserError(f"The feature {spec.name} is declared twice: keep one of the two.")
            if spec.type is FeatureType.TEXT:
                raise UserError(f"The feature {spec.name} is text, which no snapshot can hold: make it an enum.")
            if spec.type is FeatureType.SET and len(spec.values) > MAX_SET_VALUES:
                raise UserError(f"The set {spec.name} has {len(spec.values)} values: {MAX_SET_VALUES} is the most.")
        object.__setattr__(self, "specs", tuple(kept))

    def __reduce__(self) -> tuple[type["Schema"], tuple[tuple[FeatureSpec, ...]]]:
        """For other processes: what was looked up is looked up again there."""
        return Schema, (self.specs,)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    @cached_property
    def by_name(self) -> dict[str, FeatureSpec]:
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def counting(self) -> tuple[FeatureSpec, ...]:
        """The features that users' own events count on from a snapshot."""
        return tuple(spec for spec in self.specs if spec.counts)

    @property
    def width(self) -> int:
        return len(self.specs)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over what the layout depends on: names, types and declared values, in order."""
        layout = [(spec.name, str(spec.type), list(spec.values)) for spec in self.specs]
        return sha256(json.dumps(layout, separators=(",", ":")).encode()).hexdigest()[:16]

    @cached_property
    def tag(self) -> bytes:
        """The first four bytes of the hash: they say under which schema a vector was packed."""
        return bytes.fromhex(self.hash)[:TAG_BYTES]

    @cached_property
    def _struct(self) -> Struct:
        return Struct(f"<{self.width}f")

    def vector(self, values: Mapping[str, Value]) -> np.ndarray:
        """float32 of shape (width,). Keys that the schema doesn't have are ignored."""
        return np.array([encode(spec, values.get(spec.name)) for spec in self.specs], dtype=np.float32)

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """4 × width bytes: little-endian float32, in the order of `names`."""
        return self._struct.pack(*(encode(spec, values.get(spec.name)) for spec in self.specs))

    @cached_property
    def unpack(self) -> Unpacker:
        """`unpack(packed, start=0)`: the values by name, from the byte `start` on; missing ones are absent.

        As `decode` gives each. Raises ValueError for bytes of another length.
        """
        return unpacker(self.specs, decode, MINUTES_FROM)

    def to_json(self) -> dict[str, Any]:
        return {"hash": self.hash, "features": [_spec_to_json(spec) for spec in self.specs]}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> "Schema":
        """Raises ValueError when the hash that was written isn't the one of the features beside it."""
        schema = cls(tuple(_spec_from_json(item) for item in obj["features"]))
        if obj.get("hash", schema.hash) != schema.hash:
            raise ValueError(f"The schema says it is {obj['hash']}, but its features make it {schema.hash}.")
        return schema

    @classmethod
    def of(cls, features: Mapping[str, FeatureSpec] | Iterable[FeatureSpec]) -> "Schema":
        """The snapshot's part of a catalog's features: those that neither come from the context nor are text."""
        specs = features.values() if isinstance(features, Mapping) else features
        return cls(tuple(spec for spec in specs if not spec.from_context))


def _spec_to_json(spec: FeatureSpec) -> dict[str, Any]:
    """Only what differs from a plain feature is written, so that the record stays readable."""
    default = sorted(spec.default) if isinstance(spec.default, frozenset) else spec.default
    optional = {"values": list(spec.values), "default": default, "max_age": spec.max_age}
    optional |= {"unit": spec.unit, "counts": spec.counts}
    record = {"name": spec.name, "type": str(spec.type)}
    record |= {key: value for key, value in optional.items() if value not in (None, "") and (key != "values" or value)}
    return record | ({"blocks_if_missing": True} if spec.blocks_if_missing else {})


def _spec_from_json(item: Mapping[str, Any]) -> FeatureSpec:
    default = item.get("default")
    return FeatureSpec(
        name=item["name"],
        type=FeatureType(item["type"]),
        values=tuple(item.get("values", ())),
        default=frozenset(default) if isinstance(default, list) else default,
        max_age=item.get("max_age"),
        blocks_if_missing=item.get("blocks_if_missing", False),
        unit=item.get("unit", ""),
        counts=item.get("counts", ""),
    )
