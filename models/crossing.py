"""Columns that a user and an offer make together: whether the offer's genre is one that the user likes, say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from decisioning.catalog import FeatureSpec
from decisioning.domain import Value


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model sees of an offer."""

    name: str
    group: str
    attributes: Mapping[str, float | str] = field(default_factory=dict)


class Cross(NamedTuple):
    """A feature and an attribute, as a training config declares them.

    An enum is crossed with a text: 1 where both are the same word, else 0. A set is crossed with a text: 1 where the
    word is in the set, else 0. A number (or a bool) is crossed with a number: their product. What either side lacks
    makes it missing.
    """

    feature: str
    attribute: str

    @property
    def column(self) -> str:
        return f"{self.feature} × attribute.{self.attribute}"


class Crossing(NamedTuple):
    """A cross as numbers. Its value is float32(context[places] × factors) for each offer.

    So a word picks a column of the one-hot block, with the factor 1. What float32 can't hold is missing.
    """

    places: np.ndarray
    """(offers,) columns of the context."""
    factors: np.ndarray
    """(offers,) float64 of float32 precision; NaN where the offer has none."""

    def of(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(offers)) float64 of float32 precision."""
        return _product(contexts[:, self.places[offers]], self.factors[offers])

    def shown(self, contexts: np.ndarray, offers: np.ndarray) -> np.ndarray:
        """(n, context columns), and the offer of each row (n,) → (n,) float64 of float32 precision."""
        return _product(contexts[np.arange(len(contexts)), self.places[offers]], self.factors[offers])


def _product(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = (values.astype(float) * factors).astype(np.float32)
    return np.where(np.isfinite(found), found, np.nan).astype(float)


def crossing(spec: FeatureSpec, first: int, attribute: str, offers: Sequence[Traits]) -> Crossing:
    """Of a feature whose columns begin at `first`."""
    held = [offer.attributes.get(attribute) for offer in offers]
    if spec.values:
        known = {word: place for place, word in enumerate(spec.values)}
        places = [first + known.get(word, 0) if isinstance(word, str) else first for word in held]
        # A word that the feature doesn't have is nobody's: 0, or missing where the feature is.
        factors = [float(word in known) if isinstance(word, str) else np.nan for word in held]
    else:
        places = [first] * len(held)
        factors = [np.nan if value is None or isinstance(value, str) else value for value in held]
    return Crossing(np.array(places, np.intp), np.array(factors, np.float32).astype(float))


def misfit(spec: FeatureSpec | None, attribute: str, values: Sequence[Value]) -> str | None:
    """What is wrong with a cross of this feature and the attribute with these values; None if nothing is."""
    if spec is None:
        return "no model sees such a feature"
    if not values:
        return f"no offer has an attribute {attribute}"
    words = [isinstance(value, str) for value in values]
    if spec.values and not all(words):
        return f"{spec.name} is of the type {spec.type}, so the attribute {attribute} has to be a text"
    if not spec.values and any(words):
        return f"{spec.name} is of the type {spec.type}, so the attribute {attribute} has to be a number"
    return None
