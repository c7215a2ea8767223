"""Logged decisions with what followed, as arrays: what learners learn from and policies are judged on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from decisioning.domain import NOTHING

CONVERTED, NET_VALUE = "converted", "net_value"
RETIRED = "(retired)"
"""The group of what was shown and has left the catalog since."""


@dataclass(frozen=True)
class Fresh:
    """m decisions whose window is still open: to learn from, never to judge by. Codes and indices as in `Logged`."""

    user: np.ndarray
    surface: np.ndarray
    action: np.ndarray
    probability: np.ndarray
    eligible: np.ndarray
    """(m, A) bool."""
    conversion: np.ndarray
    """(m,) 1 where a conversion has been seen by now."""
    weight: np.ndarray
    """(m,) 1/Ĝ(age) for those, Ĝ being the share of conversions seen by that age; 1 for the others."""
    facts: pd.DataFrame


@dataclass(frozen=True)
class Logged:
    """n matured decisions over A actions (`arms`, sorted by name; NOTHING may be one)."""

    arms: tuple[str, ...]
    groups: tuple[str, ...]
    """(A,) each arm's group; NOTHING's is its own; RETIRED for what has left the catalog."""
    net: np.ndarray
    """(A,) value net of cost per conversion."""
    priority: np.ndarray
    """(A,) priority classes."""
    surfaces: tuple[str, ...]
    user: np.ndarray
    """(n,) integer codes."""
    surface: np.ndarray
    """(n,) indices into `surfaces`."""
    action: np.ndarray
    """(n,) indices into `arms`."""
    probability: np.ndarray
    eligible: np.ndarray
    """(n, A) bool: what a policy may choose now. Never what has retired, even where it was shown."""
    conversion: np.ndarray
    """(n,) 0 or 1: the outcome that the shown arm's group converts on, within its window."""
    primary: str
    """What `conversion` is called among the outcomes."""
    outcomes: Mapping[str, np.ndarray]
    """(n,) each, `primary` first; `net_value` where arms differ in it; then whatever else was logged."""
    facts: pd.DataFrame
    """n rows, one column per feature, as known at the decision."""
    start: float
    end: float
    immature: int
    """Decisions that nothing is judged by because their window was still open."""
    fresh: Fresh | None = None
    """Those among them to learn from, where asked for."""
    at: np.ndarray | None = None
    """(n,) when each decision was made, in epoch seconds."""
    closed: np.ndarray | None = None
    """(n,) when its window closed: from then on its label was known."""
    without_choice: int = 0
    """Decisions left out because all that was eligible has retired."""

    @property
    def n(self) -> int:
        return len(self.action)

    def take(self, rows: np.ndarray) -> "Logged":
        """Some of the matured decisions, by index; open ones are left behind."""
        named = ("user", "surface", "action", "probability", "eligible", "conversion", "at", "closed")
        columns = {name: getattr(self, name) for name in named}
        return replace(
            self,
            **{name: None if column is None else column[rows] for name, column in columns.items()},
            outcomes={name: values[rows] for name, values in self.outcomes.items()},
            facts=self.facts.iloc[rows].reset_index(drop=True),
            fresh=None,
        )

    @cached_property
    def reward(self) -> np.ndarray:
        """(n,) what policies are trained for: conversion × net value."""
        return self.conversion * self.net[self.action]

    @cached_property
    def nothing(self) -> int | None:
        """The index of NOTHING where it was logged."""
        found = self.arms.index(NOTHING) if NOTHING in self.arms else None
        return found if found is not None and (self.action == found).any() else None

    @cached_property
    def retired(self) -> np.ndarray:
        """(A,) bool: arms that the catalog no longer has."""
        return np.array([group == RETIRED for group in self.groups])
