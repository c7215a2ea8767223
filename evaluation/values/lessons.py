"""What there is to learn from: matured decisions, then open ones whose positives stand for those still to come."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.labels.logged import Fresh, Logged
from models.encoding import Encoding
from models.fitting.sample import Sample
from models.frames import encode_facts

UNSCORED = -1
"""The offer of a row that showed an arm which the model doesn't score."""


@dataclass(frozen=True)
class Folds:
    """Lessons, and the fold of each."""

    lessons: Sample
    fold: np.ndarray
    """(rows,)"""

    def part(self, left_out: Collection[int]) -> Sample:
        """What a fit that leaves out some folds is taught: all other rows that showed an arm which it scores."""
        return self.lessons.take(self._taught(left_out))

    def teaches(self, left_out: Collection[int]) -> bool:
        """Whether that part has conversions, and others."""
        seen = self.lessons.outcome[self._taught(left_out)]
        return len(seen) > 0 and seen.min() < seen.max()

    def shards(self, count: int) -> tuple["Folds", ...]:
        """The rows dealt out, so that each shard has its share of the conversions of every fold."""
        order = np.lexsort((self.lessons.outcome, self.fold))
        dealt = [np.sort(order[start::count]) for start in range(count)]
        return tuple(Folds(self.lessons.take(rows).apart(), self.fold[rows]) for rows in dealt)

    def _taught(self, left_out: Collection[int]) -> np.ndarray:
        return ~np.isin(self.fold, list(left_out)) & (self.lessons.offers != UNSCORED)


def lessons(logged: Logged, encoding: Encoding) -> Sample:
    """All rows, the n matured ones first."""
    parts = [_part(logged, logged, encoding, np.ones(logged.n))]
    if logged.fresh is not None:
        parts.append(_part(logged, logged.fresh, encoding, logged.fresh.weight))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _part(logged: Logged, rows: Logged | Fresh, encoding: Encoding, weights: np.ndarray) -> Sample:
    place = np.array([encoding.index.get(arm, UNSCORED) for arm in logged.arms])
    eligible = np.zeros((len(rows.action), len(encoding.offers)), bool)
    scored = np.flatnonzero(place >= 0)
    eligible[:, place[scored]] = rows.eligible[:, scored]
    surfaces = pd.Categorical.from_codes(rows.surface, categories=list(logged.surfaces))
    contexts = encode_facts(encoding, rows.facts, surfaces)
    return Sample(contexts, place[rows.action], rows.conversion, weights, rows.probability, eligible)


def users(logged: Logged) -> np.ndarray:
    """(rows,) the user of each lesson."""
    return logged.user if logged.fresh is None else np.concatenate([logged.user, logged.fresh.user])


def folds_of(logged: Logged, folds: int, seed: int) -> np.ndarray:
    """(rows,) the fold of each lesson: its user's. Users who converted are spread evenly over the folds."""
    user = users(logged)
    converted = np.zeros(int(user.max()) + 1, bool)
    converted[logged.user[logged.conversion > 0]] = True
    order = np.lexsort((np.random.default_rng(seed).random(len(converted)), converted))
    fold = np.empty(len(converted), np.intp)
    fold[order] = np.arange(len(converted)) % folds
    return fold[user]
