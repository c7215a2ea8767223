"""Scoring with tables of masks by the C extension `models/_bits.c`."""

import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from models.masks import Column, Parts

VERSION = 1
"""Of what Python and the extension ask of one another: `_bits.c` has the same."""

try:
    from models import _bits

    NOT_BUILT = "" if _bits.VERSION == VERSION else "the C extension is an older one (`make setup` builds it anew)"
    if sys.byteorder != "little":
        NOT_BUILT = "the C extension is for little-endian machines"
except ImportError as error:
    NOT_BUILT = f"the C extension is not there ({error})"


class ByC:
    """Holds no more than the extension's own copy of the tables."""

    def __init__(self, parts: Parts) -> None:
        """Raises ValueError for tables that don't fit together: the extension believes nothing that it is told."""
        self._masks = _bits.Masks(**arguments(parts))
        self.scores = self._masks.scores

    def matrix(self, contexts: np.ndarray, asked: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(asked)) float64."""
        out = np.empty((len(contexts), len(asked)))
        self._masks.matrix(np.ascontiguousarray(contexts, np.float64), list(asked), out)
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


def extension() -> ModuleType:
    """The extension itself. Only where it is built."""
    return _bits


def _numbers(column: Column, first: int) -> tuple[int, int, int, int]:
    """What the extension calls a Column."""
    return column.place, int(first), len(column.cuts), column.base


def _bytes(values: object, kind: type) -> bytes:
    return np.ascontiguousarray(values, kind).tobytes()


def _words(masks: np.ndarray) -> bytes:
    """As 32-bit words: the lower half of a larger one comes first."""
    return masks.tobytes() if masks.itemsize >= 4 else masks.astype(np.uint32).tobytes()
