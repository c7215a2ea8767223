"""What there is to learn from: matured decisions, then open ones whose positives stand for those still to come."""

import numpy as np
import pandas as pd

from evaluation.labels.logged import Fresh, Logged
from models.encoding import Encoding
from models.fitting.sample import Sample
from models.frames import encode_facts

UNSCORED = -1
"""The offer of a row that showed an arm which the model doesn't score."""


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
