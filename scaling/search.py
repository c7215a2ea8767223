"""What a search for parameters is asked, and what it finds. The twins are `optuna_search` and `ray_search`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

Value = float | int | str | bool
Progress = Callable[[int, int], object]
"""Told of trials done, and of all."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both ends are. `log`: even in ratios."""

    low: float | int
    high: float | int
    log: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: Value) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    among: tuple[Value, ...]

    def __contains__(self, value: Value) -> bool:
        return value in self.among


Space = Mapping[str, Range | Choice]


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked: the least loss in a space."""

    space: Space
    first: Mapping[str, Value]
    """Tried before all others: what is to be beaten."""
    trials: int
    seconds: float = inf
    """After so long no further trial begins."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """Parameters that were tried."""

    params: Mapping[str, Value]
    loss: float | None
    """None where they were refused."""
    seconds: float = 0.0
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Trials:
    """What was found, in the order in which it was tried; the first may be missing on an interrupt alone."""

    trials: tuple[Trial, ...]
    stopped: str | None = None
    """Why there are fewer than were asked for."""

    @property
    def best(self) -> Trial | None:
        """The least loss; the earliest of equals; None where all were refused."""
        return min((one for one in self.trials if one.loss is not None), key=lambda one: one.loss, default=None)
