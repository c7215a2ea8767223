"""Scoring by the C extensions: with tables of masks (`_bits.c`), what comes before and after them (`_rows.c`), and all
of it in one call (`_score.c`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from decisioning.catalog import FeatureType
from decisioning.domain import Value
from decisioning.native import missing, native
from models.calibration import Platt
from models.encoding import Encoding, encoder, feature_columns
from models.masks import Column, Parts

VERSION = 2
"""Of what Python and the extensions ask of one another: both have the same."""
SCORE_VERSION = 2
"""The same of `_score.c`, which rests on the other two."""

_bits: Any = native("models._bits", VERSION)
_rows: Any = native("models._rows", VERSION)
NOT_BUILT = missing("models._bits", VERSION) or missing("models._rows", VERSION)
if sys.byteorder != "little":
    NOT_BUILT = "the C extension is for little-endian machines"


class ByC:
    """Holds no more than the extension's own copy of the tables."""

    def __init__(self, parts: Parts) -> None:
        """Raises ValueError for tables that don't fit together: the extension believes nothing that it is told."""
        self.masks = _bits.Masks(**arguments(parts))
        self.scores = self.masks.scores

    def matrix(self, contexts: np.ndarray, asked: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(asked)) float64."""
        out = np.empty((len(contexts), len(asked)))
        if out.size:
            self.masks.matrix(np.ascontiguousarray(contexts, np.float64), list(asked), out)
        return out


def arguments(parts: Parts) -> dict[str, int | bytes]:
    """What the extension's Masks is made of."""
    masks, crossings = parts.masks, [crossing for crossing, _ in parts.crossings]
    columns = [*parts.context, *(column for _, column in parts.crossings)]
    cuts = [column.cuts for column in columns]
    firsts = np.cumsum([0, *map(len, cuts)])
    return {
        "columns": _bytes([_numbers(*pair) for pair in zip(columns, firsts, strict=False)], np.int64),
        "cuts": _bytes(np.concatenate([np.empty(0), *cuts]), np.float64),
        "table": _words(masks.table),
        "offers": _words(parts.offers),
        "values": _bytes(masks.values, np.float64),
        "places": _bytes([crossing.places for crossing in crossings], np.int64),
        "factors": _bytes([crossing.factors for crossing in crossings], np.float64),
        "crossings": len(crossings),
        "trees": len(masks.values),
        "words": masks.table.shape[2] * max(1, masks.table.itemsize // 4),
        "leaves": masks.values.shape[1],
        "forests": masks.forests,
        "width": parts.width,
    }


KINDS = {FeatureType.BOOL: 1, FeatureType.ENUM: 2, FeatureType.SET: 3}
"""How the extension calls types of features; all others are numbers."""


def packer(encoding: Encoding) -> Callable[[Mapping[str, Value], str], bytes]:
    """`encoding.context` as the bytes of its doubles, which `ByC.scores` takes as well."""
    fields, at = [], 0
    for spec in encoding.features:
        width = len(feature_columns(spec))
        places: object = spec.values
        if spec.type is FeatureType.ENUM:
            places = {value: place for place, value in enumerate(spec.values)}
        fields.append((spec.name, KINDS.get(spec.type, 0), at, width, places, encoder(spec)))
        at += width
    surfaces = {name: at + place for place, name in enumerate(encoding.surfaces)}
    nobody = np.array(encoding.context({}, ""), np.float64)
    return _rows.Packer(fields=fields, missing=nobody.tobytes(), surfaces=surfaces)


def blend(raw: Sequence[float], means: list[float], platt: Platt, shrinkage: float) -> list[float]:
    """`Model._blend` with a Platt calibration."""
    return _rows.blend(raw, means, platt.slope, platt.intercept, shrinkage)  # type: ignore[no-any-return]


Ask = Callable[[Mapping[str, Value], str, Sequence[str]], list[float] | None]


class Asker(Protocol):
    """All of a score in one call."""

    def ask(self, known: Mapping[str, Value], surface: str, offers: Sequence[str]) -> list[float] | None:
        """p_convert; None where the model doesn't know the surface or an offer."""
        ...

    def ready(self, surface: str, offers: tuple[str, ...], base: str | None) -> object | None:
        """What other extensions ask of these offers (`decisioning/asks.h`): their effects are measured against `base`.
        None where the model doesn't know the surface or the base.
        """
        ...


def asker(
    encoding: Encoding, masks: object, means: Mapping[str, Mapping[str, float]], platt: Platt, shrinkage: float
) -> Asker | None:
    """Row, masks and `blend` in one. `means`: surface → offer → rate, of all in the encoding."""
    found = native("models._score", SCORE_VERSION)
    if found is None:
        return None
    made: Asker = found.Asker(
        packer=packer(encoding),
        masks=masks,
        width=len(encoding.context_columns),
        offers=dict(encoding.index),
        surfaces={name: place for place, name in enumerate(encoding.surfaces)},
        means=_bytes([[means[name][offer] for offer in encoding.index] for name in encoding.surfaces], np.float64),
        slope=platt.slope,
        intercept=platt.intercept,
        weight=shrinkage,
    )
    return made


def extension() -> ModuleType:
    """The extension itself. Only where it is built."""
    return _bits  # type: ignore[no-any-return]


def _numbers(column: Column, first: int) -> tuple[int, int, int, int]:
    """What the extension calls a Column."""
    return column.place, int(first), len(column.cuts), column.base


def _bytes(values: object, kind: type) -> bytes:
    return np.ascontiguousarray(values, kind).tobytes()


def _words(masks: np.ndarray) -> bytes:
    """As 32-bit words: the lower half of a larger one comes first."""
    return masks.tobytes() if masks.itemsize >= 4 else masks.astype(np.uint32).tobytes()
