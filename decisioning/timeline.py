"""What changes at known moments only, worked out once for each stretch between two of them."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class Timeline(Generic[T]):
    """Something that changes at known moments only."""

    def __init__(self, spans: Iterable[tuple[float | None, float | None]], at: Callable[[float], T]) -> None:
        self.starts = sorted({moment for span in spans for moment in span if moment is not None})
        """The moments, rising."""
        self.values = [at(-inf), *map(at, self.starts)]
        """What holds before the first, and from each of them on."""

    def at(self, now: float) -> T:
        return self.values[bisect_right(self.starts, now)]
