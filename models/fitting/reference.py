"""What a fitted predictor says by LightGBM's own sums: what its golden rows hold, for our scorer to meet."""

from collections.abc import Mapping, Sequence

import lightgbm
import numpy as np

from models.encoding import Encoding
from models.fitting.boosting import beside, offer_block
from models.predictors import Contrast, Forests, Predictor, Trees


def by_lightgbm(predictor: Predictor, encoding: Encoding) -> Predictor:
    """The same predictor with boosters for trees; one without trees is its own reference."""
    if isinstance(predictor, Trees):
        return _Trees(predictor.text, encoding)  # type: ignore[return-value]
    if isinstance(predictor, Forests):
        return _Forests(predictor.models, encoding)  # type: ignore[return-value]
    if isinstance(predictor, Contrast):
        parts = (by_lightgbm(part, encoding) for part in (predictor.base, predictor.effects))
        return Contrast(predictor.baseline, *parts)
    return predictor


class _Trees:
    kind, is_exact, way = Trees.kind, Trees.is_exact, None

    def __init__(self, text: str, encoding: Encoding) -> None:
        self._booster, self._encoding = lightgbm.Booster(model_str=text), encoding

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        if not len(offers):
            return []
        contexts = np.tile(context, (len(offers), 1))
        return _sums(self._booster, beside(contexts, np.array(offers), offer_block(self._encoding)))


class _Forests:
    kind, is_exact, way = Forests.kind, Forests.is_exact, None

    def __init__(self, models: Mapping[int, str], encoding: Encoding) -> None:
        self._boosters = {offer: lightgbm.Booster(model_str=text) for offer, text in models.items()}

    def raw(self, context: Sequence[float], offers: Sequence[int]) -> Sequence[float]:
        row = np.array([context])
        return [_sums(self._boosters[offer], row)[0] if offer in self._boosters else np.nan for offer in offers]


def _sums(booster: lightgbm.Booster, rows: np.ndarray) -> list[float]:
    return booster.predict(rows, raw_score=True, num_threads=1).tolist()
