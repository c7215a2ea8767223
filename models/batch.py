"""What a model says of many users at once: `Model.score` row by row, to the last bit, from packed snapshot vectors.

The trees are walked for many users in one step (`TreeScorer.matrix`), which is several times as fast as one by one,
and faster than LightGBM's own predict over the assembled matrix. Everything after them uses the functions that serve
one user, as numpy's `exp` may differ from Python's in the last bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import NOTHING, Scores, Value
from features.schema import Schema, decode
from models.artifact import Model
from models.encoding import Encoding, encoder, feature_columns, missing_columns

AMOUNTS = (FeatureType.INT, FeatureType.FLOAT)


@dataclass(frozen=True)
class Users:
    """What is known of n users of one snapshot, as of one moment."""

    schema: Schema
    vectors: np.ndarray
    """(n, schema.width) float32, packed by `schema`; NaN where missing. A user whom the snapshot lacks is all NaN."""
    defaults: Mapping[str, Value]
    """The catalog's, by feature."""
    stale: frozenset[str] = frozenset()
    """Features whose snapshot values are too old to count."""
    context: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Values that come with the request, by feature: n each, None where missing."""

    def __len__(self) -> int:
        return len(self.vectors)


def encode_users(encoding: Encoding, users: Users, surface: str) -> np.ndarray:
    """(n, context columns) float32: what `Encoding.context` gives for the known values of each user."""
    out = np.empty((len(users), len(encoding.context_columns)), np.float32)
    place, at = {name: column for column, name in enumerate(users.schema.names)}, 0
    for spec in encoding.features:
        block = out[:, at : at + len(feature_columns(spec))]
        row, default = _rows(spec), users.defaults.get(spec.name)
        if spec.name in users.context:
            rows = [row(default if value is None else value) for value in users.context[spec.name]]
            block[:] = np.array(rows, np.float32).reshape(block.shape)
        elif spec.name in place and spec.name not in users.stale:
            column = place[spec.name]
            _fill(block, row, spec, users.schema.specs[column], users.vectors[:, column], default)
        else:
            block[:] = row(default)
        at += block.shape[1]
    out[:, at:] = [float(name == surface) for name in encoding.surfaces]
    return out


def _rows(spec: FeatureSpec) -> Callable[[Value], Sequence[float]]:
    """From a value to its columns; of one that is missing or misfits, those of a missing one."""
    encode, missing = encoder(spec), missing_columns(spec)
    return lambda value: encode(value) or missing


def _fill(
    block: np.ndarray,
    row: Callable[[Value], Sequence[float]],
    spec: FeatureSpec,
    packed: FeatureSpec,
    numbers: np.ndarray,
    default: Value,
) -> None:
    """From packed numbers: as they are where the model reads numbers, else by a row for each distinct one."""
    known = np.isfinite(numbers)
    block[~known] = row(default)
    if spec.type in AMOUNTS and packed.type in AMOUNTS:
        block[known, 0] = numbers[known]
        return
    distinct, which = np.unique(numbers[known], return_inverse=True)
    decoded = [decode(packed, float(number)) for number in distinct]
    if decoded:
        rows = [row(default if value is None else value) for value in decoded]
        block[known] = np.array(rows, np.float32)[which]


def score_matrix(
    model: Model, contexts: np.ndarray, surface: str, offers: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """p_convert and effect, (n, len(offers)) float64 each: `Model.score` of every row, to the last bit."""
    asked = [*offers, NOTHING] if model.uplift and NOTHING not in offers else list(offers)
    means = np.array([model.mean(surface, name) for name in asked])
    p = np.broadcast_to(means, (len(contexts), len(asked)))
    if model.shrinkage != 0.0:
        p = _shrunk(model, means, _learned(model, contexts, asked))
    base = p[:, [asked.index(NOTHING)]] if model.uplift else 0.0
    found = p[:, : len(offers)]
    effect = found - base
    effect[:, [name == NOTHING for name in offers]] = 0.0
    return found, effect


def _learned(model: Model, contexts: np.ndarray, asked: Sequence[str]) -> np.ndarray:
    """Calibrated, NaN where the learner has nothing to say."""
    index = model.encoding.index
    known = [place for place, name in enumerate(asked) if name in index]
    learned = np.full((len(contexts), len(asked)), np.nan)
    if known:
        raw = model.predictor.exact(contexts, [index[asked[place]] for place in known])
        learned[:, known] = np.array(model.calibration.each(raw.ravel().tolist())).reshape(raw.shape)
    return learned


def _shrunk(model: Model, means: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """As `Model.score` does it to one."""
    p = means + model.shrinkage * (learned - means)
    p = np.where(p < 0.0, 0.0, np.where(p > 1.0, 1.0, p))
    return np.where(np.isnan(learned), means, p)


class Ahead:
    """A model that knows its answers to some users before it is asked: `foresee` them, then say whose turn it is.

    `decide` can't tell it from the model itself.
    """

    def __init__(self, model: Model, surface: str, offers: Sequence[str]) -> None:
        self._model, self._surface, self._offers = model, surface, tuple(offers)
        self._place = {name: column for column, name in enumerate(offers)}
        self._p: list[list[float]] = []
        self._effect: list[list[float]] = []
        self.turn: int | None = None
        """The user who is asked about, by row; None for one who was not foreseen."""

    @property
    def label(self) -> str:
        return self._model.label

    def foresee(self, users: Users) -> None:
        contexts = encode_users(self._model.encoding, users, self._surface)
        p, effect = score_matrix(self._model, contexts, self._surface, self._offers)
        self._p, self._effect, self.turn = p.tolist(), effect.tolist(), None

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        """What was not foreseen, the model itself answers."""
        place = self._place
        if self.turn is None or surface != self._surface or any(name not in place for name in offers):
            return self._model.score(features, surface, offers)
        p, effect = self._p[self.turn], self._effect[self.turn]
        return Scores([p[place[name]] for name in offers], [effect[place[name]] for name in offers])

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self._model.prior(surface, offers)
