"""What a fitted learner is when it serves: from a context row and offers to raw log-odds. numpy only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from models.encoding import Encoding
from models.scorer import ForestsScorer, TreeScorer, Way
from models.trees import parse

TEXT = "model.txt"
LEAST_P = 1e-6
"""A sum of a rate and an effect is held this far inside (0, 1): its log-odds are finite."""


class Predictor(Protocol):
    """Raw log-odds of a conversion. NaN where the predictor has nothing personal to say of an offer."""

    kind: str
    is_exact: bool
    """Whether raw scores are sums in a fixed order, and so the same to the last bit on every machine."""
    way: Way | None
    """How its trees are scored; None where there are none."""

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        """One context row, some offers by their row in the encoding."""
        ...

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(offers))."""
        ...

    def exact(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        """`matrix` to the last bit as `raw` has it, row by row: for answers that must be those of serving."""
        ...

    def to_json(self) -> dict[str, object]: ...

    @property
    def texts(self) -> Mapping[str, str]:
        """LightGBM's native text models, by file name; they are stored beside the JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Says nothing personal: every offer stays at its mean."""

    kind, is_exact, way, texts = "constant", True, None, MappingProxyType({})

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        return [math.nan] * len(offers)

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        return np.full((len(contexts), len(offers)), math.nan)

    exact = matrix

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
    kind, is_exact, way, texts = "linear", True, None, MappingProxyType({})

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

    def exact(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        rows = [self.raw(row, offers) for row in contexts.astype(float).tolist()]
        return np.array(rows, float).reshape(len(contexts), len(offers))

    def to_json(self) -> dict[str, object]:
        return {"fill": self.fill, "weights": self.weights, "intercepts": self.intercepts}


class Trees:
    """A LightGBM model over context and offer columns and their crosses, scored without LightGBM."""

    kind, is_exact = "trees", True

    def __init__(self, text: str, encoding: Encoding, way: Way | None = None) -> None:
        """Raises TreeError for a text that the scorer can't do, ValueError for one of other columns."""
        self.text, self._encoding = text, encoding
        self._scorer = TreeScorer(
            parse(text), len(encoding.context_columns), encoding.offer_matrix, encoding.crossings, way
        )
        self.way, self.raw, self.matrix = self._scorer.way, self._scorer.raw, self._scorer.matrix
        self.masks = self._scorer.masks

    def exact(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        return self.matrix(contexts, offers)

    def __reduce__(self) -> tuple[object, ...]:
        """For other processes, which make the tables anew, and score as fast as they can there."""
        return Trees, (self.text, self._encoding)

    def to_json(self) -> dict[str, object]:
        return {}

    @property
    def texts(self) -> Mapping[str, str]:
        return {TEXT: self.text}


class Forests:
    """A LightGBM model per offer, over the context block alone; an offer without one has nothing personal."""

    kind, is_exact = "forests", True

    def __init__(self, models: Mapping[int, str], encoding: Encoding, way: Way | None = None) -> None:
        """`models`: text models by row of the encoding. Raises TreeError or ValueError as `Trees` does."""
        self.models, self._encoding = dict(sorted(models.items())), encoding
        if not self.models or not set(self.models) <= set(range(len(encoding.offers))):
            raise ValueError("the forests don't match the offers")
        self._place = {offer: place for place, offer in enumerate(self.models)}
        forests = [parse(text) for text in self.models.values()]
        self._scorer = ForestsScorer(forests, len(encoding.context_columns), way)
        self.way = self._scorer.way

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        found, place = self._scorer.raw(context), self._place
        return [found[place[offer]] if offer in place else math.nan for offer in offers]

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        found = self._scorer.matrix(contexts)
        out = np.full((len(contexts), len(offers)), math.nan)
        for column, offer in enumerate(offers):
            if offer in self._place:
                out[:, column] = found[:, self._place[offer]]
        return out

    exact = matrix

    def to_json(self) -> dict[str, object]:
        return {"offers": list(self.models)}

    @property
    def texts(self) -> Mapping[str, str]:
        return {_file(offer): text for offer, text in self.models.items()}

    def __reduce__(self) -> tuple[object, ...]:
        """As of `Trees`."""
        return Forests, (self.models, self._encoding)


def _file(offer: int) -> str:
    return f"model-{offer:03d}.txt"


class Contrast:
    """A baseline's probability, and what each other offer adds to it: log-odds of σ(base) + τ."""

    kind, is_exact = "contrast", False

    def __init__(self, baseline: int, base: Trees, effects: Forests) -> None:
        self.baseline, self.base, self.effects, self.way = baseline, base, effects, base.way

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        (base,) = self.base.raw(context, [self.baseline])
        return self._together(base, self.effects.raw(context, offers), offers)

    def _together(self, base: float, effects: Sequence[float], offers: Sequence[int]) -> list[float]:
        rate = 1.0 / (1.0 + math.exp(-max(base, -700.0)))
        return [
            base if offer == self.baseline else _log_odds(rate + effect)
            for offer, effect in zip(offers, effects, strict=True)
        ]

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        base = self.base.matrix(contexts, [self.baseline])
        rate = 1.0 / (1.0 + np.exp(-np.maximum(base, -700.0)))
        p = np.clip(rate + self.effects.matrix(contexts, offers), LEAST_P, 1.0 - LEAST_P)
        return np.where(np.array(offers) == self.baseline, base, np.log(p / (1.0 - p)))

    def exact(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        bases = self.base.exact(contexts, [self.baseline])[:, 0].tolist()
        effects = self.effects.exact(contexts, offers).tolist()
        rows = [self._together(base, row, offers) for base, row in zip(bases, effects, strict=True)]
        return np.array(rows, float).reshape(len(contexts), len(offers))

    def to_json(self) -> dict[str, object]:
        return {"baseline": self.baseline, **self.effects.to_json()}

    @property
    def texts(self) -> Mapping[str, str]:
        return {**self.base.texts, **self.effects.texts}


def _log_odds(p: float) -> float:
    if p != p:
        return p
    p = min(max(p, LEAST_P), 1.0 - LEAST_P)
    return math.log(p / (1.0 - p))


def predictor_from_json(
    kind: str, obj: Mapping[str, object], texts: Mapping[str, str], encoding: Encoding, way: Way | None = None
) -> Predictor:
    """The inverse of `to_json` and `texts`. Raises ValueError (TreeError included), KeyError or TypeError otherwise."""
    if kind == "constant":
        return Constant()
    if kind == "trees":
        return Trees(texts[TEXT], encoding, way)
    if kind == "linear":
        return _linear(obj, encoding)
    if kind not in ("forests", "contrast"):
        raise ValueError(f"no predictor is called {kind!r}")
    forests = Forests({offer: texts[_file(offer)] for offer in obj["offers"]}, encoding, way)
    if kind == "forests":
        return forests
    if not 0 <= obj["baseline"] < len(encoding.offers):
        raise ValueError("the baseline is none of the offers")
    return Contrast(obj["baseline"], Trees(texts[TEXT], encoding, way), forests)


def _linear(obj: Mapping[str, object], encoding: Encoding) -> Linear:
    weights = tuple(None if row is None else tuple(map(float, row)) for row in obj["weights"])
    linear = Linear(tuple(map(float, obj["fill"])), weights, tuple(map(float, obj["intercepts"])))
    columns = len(encoding.context_columns)
    if len(linear.fill) != columns or any(row is not None and len(row) != columns for row in weights):
        raise ValueError("the weights don't match the columns")
    if not len(weights) == len(linear.intercepts) == len(encoding.offers):
        raise ValueError("the weights don't match the offers")
    return linear
