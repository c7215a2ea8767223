"""Values fresher than the snapshot: what streams report of a user, and what the user's own events add to a count.

A stream's value comes with the moment that it describes: like a snapshot's, it knows of everything before that moment.
The later of the two wins; at the same moment the snapshot's does. A feature that `counts` a type of event goes on from
there: each such event in the user's history, from that moment on, adds one. As a history holds each event once, in
whatever order they came, so does the count; and an event before the snapshot is in the snapshot's value already.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from struct import Struct
from typing import Any

import msgspec

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import HistoryEvent, Value
from features.schema import Schema, decode, encode

FRESH_SECONDS = 7 * 86_400
"""A record that saw no new value for so long is forgotten: every snapshot since then knows better."""

CORRUPT_FRESH = "fresh:corrupt"

Fresh = Mapping[str, tuple[float, Value]]
"""By feature: the moment that a value describes, and the value."""

_float32 = Struct("<f")


class _Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A MessagePack array that begins with the time: the server's script reads that."""

    at: float
    value: bool | int | float | str | list[str]


_packed = msgspec.msgpack.Decoder(_Packed)


def pack_fresh(value: Value, at: float) -> bytes:
    return msgspec.msgpack.encode((float(at), sorted(value) if isinstance(value, frozenset) else value))


def unpack_fresh(fields: Iterable[tuple[bytes, bytes]], schema: Schema) -> tuple[Fresh, int]:
    """A user's record as far as it can be used, and how many of its values can't. Other schemas' features drop out."""
    found: dict[str, tuple[float, Value]] = {}
    damaged = 0
    for name, packed in fields:
        spec = schema.by_name.get(name.decode(errors="replace"))
        if spec is None:
            continue
        try:
            one = _packed.decode(packed)
            if not isfinite(one.at):
                raise ValueError("no moment")
            found[spec.name] = one.at, held(spec, one.value)
        except (msgspec.DecodeError, ValueError):
            damaged += 1
    return found, damaged


def held(spec: FeatureSpec, value: Any) -> Value:
    """The value as a snapshot would hold it, and models know it: a float32, whole minutes, declared names.

    A list stands for a set. Raises ValueError, in words, for one that the feature can't have.
    """
    wrong = ValueError(f"{spec.name} is declared {spec.type}, and can't be {value!r}")
    match spec.type, value:
        case FeatureType.BOOL, bool():
            pass
        case (FeatureType.BOOL, _) | (_, bool()):
            raise wrong
        case FeatureType.INT, float() if not value.is_integer():
            raise wrong
        case FeatureType.SET, list() | frozenset() if all(isinstance(one, str) for one in value):
            if unknown := sorted({*value} - {*spec.values}):
                raise ValueError(f"{spec.name} has no {', '.join(unknown)}")
            value = frozenset(value)
    try:
        number = encode(spec, value)
    except ValueError:
        raise wrong from None
    if not isfinite(number):
        raise wrong
    return decode(spec, *_float32.unpack(_float32.pack(number)))


def freshen(
    features: Mapping[str, Value],
    as_of: float | None,
    fresh: Fresh,
    counting: Sequence[FeatureSpec],
    history: Sequence[HistoryEvent],
) -> tuple[Mapping[str, Value], dict[str, float]]:
    """The features with whatever is newer than the snapshot of `as_of`, and the moment that each newer one describes.

    `counting` are the features that count events. Where a user is in no snapshot, they begin at their defaults.
    """
    newer = {name: one for name, one in fresh.items() if as_of is None or one[0] > as_of}
    moments = {name: at for name, (at, _) in newer.items()}
    values = {**features, **{name: value for name, (_, value) in newer.items()}} if newer else features
    for spec in counting if history else ():
        since = moments.get(spec.name, as_of)
        base = values.get(spec.name, spec.default)
        if since is None or not isinstance(base, int | float):
            continue
        more = sum(event.at >= since and event.type == spec.counts for event in history)
        if more:
            values = {**values, spec.name: base + more}
            moments[spec.name] = since
    return values, moments
