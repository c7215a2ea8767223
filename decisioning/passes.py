"""What a ranking does to each of the offers that are left, one pass over all of them at a time.

These say what is right. The extension `_rank.c` does the same, and takes their places where it is built.
"""

from collections.abc import Sequence
from itertools import compress
from operator import mul

from decisioning.native import native

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""

_DIGITS = bytes.maketrans(b"01", b"\0\1")


def pick(left: int, names: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """The offers of a bit set: 1 for each that is in it, those after the last left out; and their names."""
    flags = bin(left)[:1:-1].encode().translate(_DIGITS)  # "0b1011" → 1, 1, 0, 1
    return flags, tuple(compress(names, flags))


def weigh(effect: Sequence[float], worth: tuple[float, ...], flags: bytes) -> list[float]:
    """The score (effect × worth) of each offer that is flagged; `worth` is by position on the surface."""
    return list(map(mul, effect, compress(worth, flags)))


def best(scores: Sequence[float]) -> int:
    """The place of the highest; -1 where two are as high, or one is no float, or NaN, or there is none."""
    if not scores or any(type(one) is not float or one != one for one in scores):
        return -1
    highest = max(scores)
    return scores.index(highest) if scores.count(highest) == 1 else -1


_extension = native("decisioning._rank", VERSION)
if _extension is not None:
    pick, weigh, best = _extension.pick, _extension.weigh, _extension.best
