"""What a fitted learner is when it serves: from a context row and offers to raw log-odds. numpy only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.encoding import Encoding
from models.scorer import TreeScorer
from models.trees import parse


class Predictor(Protocol):
    """Raw log-odds of a conversion. NaN where the predictor has nothing personal to say of an offer."""

    kind: str

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        """One context row, some offers by their row in the encoding."""
        ...

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(offers))."""
        ...

    def to_json(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Says nothing personal: every offer stays at its mean."""

    kind = "constant"

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        return [math.nan] * len(offers)

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        return np.full((len(contexts), len(offers)), math.nan)

    def to_json(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear function per offer over the context block; a missing value takes its column's mean.

    `weights` has a row of (context columns) weights per offer of the encoding, or None where there was too little
    data for that offer.
    """

    fill: tuple[float, ...]
    weights: tuple[tuple[float, ...] | None, ...]
    intercepts: tuple[float, ...]
    kind = "linear"

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        filled = [mean if value != value else value for value, mean in zip(context, self.fill, strict=True)]
        return [self._one(filled, offer) for offer in offers]

    def _one(self, filled: Sequence[float], offer: int) -> float:
        weights = self.weights[offer]
        if weights is None:
            return math.nan
        # fsum is exact, so that no order of additions can change the last bit.
        return math.fsum([self.intercepts[offer], *(w * x for w, x in zip(weights, filled, strict=True))])

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        filled = np.where(np.isnan(contexts), np.array(self.fill), contexts)
        out = np.full((len(contexts), len(offers)), math.nan)
        for column, offer in enumerate(offers):
            if self.weights[offer] is not None:
                out[:, column] = filled @ np.array(self.weights[offer]) + self.intercepts[offer]
        return out

    def to_json(self) -> dict[str, object]:
        return {"fill": self.fill, "weights": self.weights, "intercepts": self.intercepts}


class Trees:
    """A LightGBM model over context and offer columns, scored without LightGBM."""

    kind = "trees"

    def __init__(self, text: str, encoding: Encoding) -> None:
        """Raises TreeError for a text that the scorer can't do, ValueError for one of other columns."""
        self.text = text
        self._scorer = TreeScorer(parse(text), len(encoding.context_columns), encoding.offer_matrix)

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        return self._scorer.raw(context, np.array(offers, np.intp)).tolist()

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        return self._scorer.matrix(contexts, np.array(offers, np.intp))

    def to_json(self) -> dict[str, object]:
        return {}


def predictor_from_json(kind: str, obj: Mapping[str, object], text: str | None, encoding: Encoding) -> Predictor:
    """The inverse of `to_json`. Raises ValueError (TreeError included), KeyError or TypeError for anything else."""
    if kind == "constant":
        return Constant()
    if kind == "trees":
        if text is None:
            raise ValueError("model.txt is missing")
        return Trees(text, encoding)
    if kind != "linear":
        raise ValueError(f"no predictor is called {kind!r}")
    weights = tuple(None if row is None else tuple(map(float, row)) for row in obj["weights"])
    linear = Linear(tuple(map(float, obj["fill"])), weights, tuple(map(float, obj["intercepts"])))
    columns = len(encoding.context_columns)
    if len(linear.fill) != columns or any(row is not None and len(row) != columns for row in weights):
        raise ValueError("the weights don't match the columns")
    if not len(weights) == len(linear.intercepts) == len(encoding.offers):
        raise ValueError("the weights don't match the offers")
    return linear
