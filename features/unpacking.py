"""The values of a whole vector at once: by the extension `_vectors.c`, or else by functions compiled for its schema.

Every request unpacks one vector, and a call of `decode` for each feature takes eight times as long. `decode` stays the
one place that says what a number stands for: whatever is not plain arithmetic is asked of it here, once for each
number. The extension gives the same in a third of the time.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from struct import Struct
from typing import Any, Protocol

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Value
from decisioning.native import native

CODES_KEPT = 4096
"""Per feature. An enum has few codes; of a set of 24 values, the masks that users really have."""

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""
KINDS = {FeatureType.FLOAT: 0, FeatureType.INT: 1, FeatureType.BOOL: 2, FeatureType.TIME: 3, FeatureType.ENUM: 4}
KINDS |= {FeatureType.SET: 5}
"""How the extension calls the types of features."""

Decode = Callable[[FeatureSpec, float], Value]
Numbers = Callable[[tuple[float, ...]], dict[str, Value]]


class Unpacker(Protocol):
    def __call__(self, packed: bytes, start: int = 0, /) -> dict[str, Value]:
        """The values by name, from the byte `start` on; missing ones are absent.

        Raises ValueError for bytes of another length.
        """
        ...


class _NoCode(Exception):
    """A number that stands for no value of its feature."""


class _Codes(dict[float, Value]):
    """What the numbers of a feature stand for, each worked out once."""

    def __init__(self, spec: FeatureSpec, decode: Decode) -> None:
        super().__init__()
        self._spec, self._decode = spec, decode

    def __missing__(self, number: float) -> Value:
        value = self._decode(self._spec, number)
        if value is None:
            raise _NoCode
        if len(self) < CODES_KEPT:
            self[number] = value
        return value

    def find(self, number: float) -> Value:
        try:
            return self[number]
        except _NoCode:
            return None


def unpacker(specs: Sequence[FeatureSpec], decode: Decode, minutes_from: float) -> Unpacker:
    """For vectors of little-endian float32 in the order of `specs`, with each value as `decode` gives it.

    `minutes_from`: the moment (epoch seconds) from which a time counts its minutes.
    """
    found = native("features._vectors", VERSION)
    if found is None:
        return by_python(specs, decode, minutes_from)
    fields = tuple((spec.name, KINDS[spec.type], spec.values) for spec in specs)
    return found.Unpacker(fields, minutes_from).unpack


def by_python(specs: Sequence[FeatureSpec], decode: Decode, minutes_from: float) -> Unpacker:
    """The same without the extension."""
    layout, values = Struct(f"<{len(specs)}f"), _values(specs, decode, minutes_from)

    def unpack(packed: bytes, start: int = 0) -> dict[str, Value]:
        if len(packed) - start != layout.size:
            raise ValueError(
                f"A packed vector of {len(packed) - start} bytes isn't of this schema: {layout.size} expected."
            )
        return values(layout.unpack_from(packed, start))

    return unpack


def _values(specs: Sequence[FeatureSpec], decode: Decode, minutes_from: float) -> Numbers:
    """From the numbers of a vector to its values."""
    known: dict[str, Any] = {"minutes_from": minutes_from}
    for place, spec in enumerate(specs):
        codes = _Codes(spec, decode)
        known |= {f"codes{place}": codes, f"find{place}": codes.find}
    places = list(enumerate(specs))
    all_of = _compiled(known, [_entry(place, spec, "codes{0}[n{0}]") for place, spec in places])
    is_there = " if n{0} - n{0} == 0.0 else None"  # neither NaN nor infinite
    some_of = _compiled(
        known, [_entry(place, spec, "find{0}(n{0})") + is_there.format(place) for place, spec in places]
    )

    def unpack(numbers: tuple[float, ...]) -> dict[str, Value]:
        if isfinite(sum(numbers)):  # all of them are
            try:
                return all_of(numbers)
            except _NoCode:
                pass
        return {name: value for name, value in some_of(numbers).items() if value is not None}

    return unpack


def _entry(place: int, spec: FeatureSpec, coded: str) -> str:
    """`"age": round(n0)`, for a number that is there."""
    number = f"n{place}"
    match spec.type:
        case FeatureType.FLOAT:
            value = number
        case FeatureType.INT:
            value = f"round({number})"
        case FeatureType.BOOL:
            value = f"{number} != 0.0"
        case FeatureType.TIME:
            value = f"minutes_from + 60.0 * {number}"
        case _:
            value = coded.format(place)
    return f"{spec.name!r}: {value}"


def _compiled(known: dict[str, Any], entries: Sequence[str]) -> Numbers:
    names = "".join(f"n{place}, " for place in range(len(entries)))
    source = f"def unpack(numbers):\n    [{names}] = numbers\n    return {{{', '.join(entries)}}}"
    scope = dict(known)
    exec(compile(source, "<unpacking>", "exec"), scope)
    return scope["unpack"]
