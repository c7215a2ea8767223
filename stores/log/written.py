"""Records as JSON by the C extension (`_json.c`), where it is built: byte for byte what msgspec writes."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol

from decisioning.native import native

VERSION = 2
"""Of what Python and the extension ask of one another: both have the same."""


@dataclass(frozen=True, slots=True)
class Field:
    """One member of an object."""

    attribute: str
    name: str
    absent: bytes = b"null"
    """The JSON in place of None."""
    is_rounded: bool = False
    """To six places. Only for floats."""


class Encode(Protocol):
    """A value as JSON. With a moment (epoch seconds), of a record that gets it as its last field, in RFC 3339 to the
    millisecond. None for what the extension doesn't know."""

    def __call__(self, value: object, moment: float = ..., /) -> bytes | None: ...


def by_c(
    kinds: Mapping[type, Sequence[Field]], texts: Sequence[type[StrEnum]] = (), *, last: str = ""
) -> Encode | None:
    """Writes objects of some types, each with its fields in their order; None where the extension isn't there.

    The types are dataclasses with slots. `texts` are written as their values; floats, ints, bools, str, None, and
    tuples, dicts and frozensets of what is known, as msgspec does in its deterministic order. `last` names the field of
    the moment. Raises ValueError for a field that has no slot.
    """
    extension = native("stores.log._json", VERSION)
    if extension is None:
        return None
    told = tuple((kind, tuple(_told(number, field) for number, field in enumerate(kinds[kind]))) for kind in kinds)
    return extension.Writer(told, tuple(texts), f',"{last}":"'.encode(), _POWERS).encode


def whole(*kinds: type) -> dict[type, list[Field]]:
    """Dataclasses with all their fields."""
    return {kind: [Field(field.name, field.name) for field in fields(kind)] for kind in kinds}


def _told(number: int, field: Field) -> tuple[str, bytes, bytes, bool]:
    label = ("," if number else "{") + f'"{field.name}":'
    return field.attribute, label.encode(), field.absent, field.is_rounded


def _power(k: int) -> bytes:
    """10 ** k in its 128 highest bits, rounded up; the higher half first."""
    top, bottom = (10**k, 1) if k >= 0 else (1, 10**-k)
    shift = 128 - top.bit_length() + bottom.bit_length()
    found = -(-(top << shift) // bottom) if shift >= 0 else -(-top // (bottom << -shift))
    if found >> 128:
        found = -(-found // 2)
    return struct.pack("=QQ", found >> 64, found & (1 << 64) - 1)


_POWERS = b"".join(map(_power, range(-292, 325)))
