"""What a pass of what-if counts; every part adds up with `+`, in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from evaluation.recorded.merging import merged
from evaluation.values.estimators import Estimate, Rows

Segment = tuple[str, str]
"""A feature and one of its values; EVERYBODY for all decisions."""
EVERYBODY: Segment = ("", "")


@dataclass(frozen=True, slots=True)
class Cell:
    """Decisions of a segment. `before` is by what is in use, `after` by what is asked about; neither explores."""

    decisions: int = 0
    changed: int = 0
    """Another first offer (or nothing instead of one, or one instead of nothing)."""
    slate_changed: int = 0
    """Another offer, or another order, in any slot."""
    policy_changed: int = 0
    """Other chances in slot 1, if only of what is explored."""
    left_with_nothing: int = 0
    """Something before, nothing after."""
    nothing_before: int = 0
    nothing_after: int = 0
    fallback_before: int = 0
    fallback_after: int = 0
    unjudged: int = 0
    """Chances, in millionths, of offers that the log could not show: its outcomes say nothing of them."""

    def __add__(self, other: "Cell") -> "Cell":
        return Cell(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Cell)))


@dataclass(frozen=True, slots=True)
class OfferTally:
    """How often an offer comes first."""

    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0
    expected_before: int = 0
    """With exploration: the sum of its chances, in millionths."""
    expected_after: int = 0
    unjudged: int = 0
    """Of `expected_after`, where the log could not show it."""

    def __add__(self, other: "OfferTally") -> "OfferTally":
        return OfferTally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(OfferTally)))


@dataclass(frozen=True)
class Worth:
    """The value estimates of a segment: accumulators over its matured decisions."""

    difference: Estimate
    """Paired; its positives are matched ones where the two policies differ."""
    before: Estimate
    touched: int
    """Decisions where the two policies differ in what the log can judge."""

    def __add__(self, other: "Worth") -> "Worth":
        return Worth(self.difference + other.difference, self.before + other.before, self.touched + other.touched)


@dataclass(frozen=True)
class Tally:
    """Everything that was counted of some recorded decisions."""

    cells: Mapping[Segment, Cell] = field(default_factory=dict)
    offers: Mapping[str, OfferTally] = field(default_factory=dict)
    flows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """From what came first to what would, where that differs."""
    worth: Mapping[Segment, Worth] = field(default_factory=dict)
    users: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Sorted, each once."""
    users_with_nothing: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Those with a decision that would leave them with nothing."""
    young: int = 0
    """Decisions whose windows are still open, so that they have no say in values."""
    impossible: int = 0
    """Decisions that show what had no chance: no say in values either."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    unloadable: Mapping[str, int] = field(default_factory=dict)
    """Decisions by release that can't be loaded."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            merged(self.cells, other.cells),
            merged(self.offers, other.offers),
            merged(self.flows, other.flows),
            merged(self.worth, other.worth),
            np.union1d(self.users, other.users),
            np.union1d(self.users_with_nothing, other.users_with_nothing),
            self.young + other.young,
            self.impossible + other.impossible,
            merged(self.left_out, other.left_out),
            merged(self.unloadable, other.unloadable),
        )

    @property
    def all(self) -> Cell:
        return self.cells.get(EVERYBODY, Cell())


class Counts:
    """Sums by key as they grow: the mutable side of Cell and OfferTally."""

    def __init__(self, kind: type) -> None:
        self._kind, self._width = kind, len(fields(kind))
        self._rows: dict = {}

    def row(self, key: object) -> list[int]:
        found = self._rows.get(key)
        if found is None:
            found = self._rows[key] = [0] * self._width
        return found

    def tallies(self) -> dict:
        return {key: self._kind(*row) for key, row in self._rows.items()}


class ValueRows:
    """Matured decisions as rows, for the estimates of every segment that they are in."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, float, float, float, bool]] = []
        self._members: dict[Segment, list[int]] = {}

    def add(
        self,
        user: int,
        *,
        reward: float,
        weights: tuple[float, float],
        means: tuple[float, float],
        q_logged: float,
        differs: bool,
        segments: Sequence[Segment],
    ) -> None:
        """One decision. `weights` and `means` (Σ_a π(a) q̂(a)) are those of before and after."""
        correction = reward - q_logged
        before = means[0] + weights[0] * correction
        after = means[1] + weights[1] * correction
        at = len(self._rows)
        self._rows.append((user, reward, weights[1], before, after - before if differs else 0.0, differs))
        for segment in segments:
            self._members.setdefault(segment, []).append(at)

    def worth(self) -> dict[Segment, Worth]:
        if not self._rows:
            return {}
        user = np.array([row[0] for row in self._rows], np.int64)
        reward, weight, before, difference = (np.array([row[n] for row in self._rows], float) for n in range(1, 5))
        differs = np.array([row[5] for row in self._rows], bool)
        found = {}
        for segment, members in self._members.items():
            at = np.array(members, np.intp)
            found[segment] = _worth(user[at], reward[at], weight[at], before[at], difference[at], differs[at])
        return found


def _worth(
    user: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    before: np.ndarray,
    difference: np.ndarray,
    differs: np.ndarray,
) -> Worth:
    zeros, ones = np.zeros(len(user)), np.ones(len(user))
    paired = Estimate.of(Rows(user, reward, weight, zeros, zeros), difference, ones)
    matched = int(((reward != 0) & differs).sum())
    return Worth(
        replace(paired, positives=matched),
        Estimate.of(Rows(user, reward, ones, zeros, zeros), before, ones),
        int(differs.sum()),
    )
