"""What a learner is given: training rows, and its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from decisioning.domain import NOTHING
from decisioning.errors import UserError
from models.encoding import Encoding
from models.predictors import Predictor

Params = Mapping[str, float | int | str | bool]


@dataclass(frozen=True, slots=True)
class Sample:
    """Training rows: `contexts` (n, context columns) float32, and arrays of the same length."""

    contexts: np.ndarray
    offers: np.ndarray
    """(n,) rows of the encoding's offer matrix: what was shown."""
    outcome: np.ndarray
    """(n,) 0 or 1."""
    weights: np.ndarray
    """(n,) 1, or more for what stands for others that can't be seen yet."""
    probability: np.ndarray | None = None
    """(n,) the chance that the logging policy gave to what was shown; None: nobody knows."""
    eligible: np.ndarray | None = None
    """(n, offers) bool: what could have been shown; None: everything."""

    @property
    def n(self) -> int:
        return len(self.offers)

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the rows, by index or by mask."""
        columns = (getattr(self, column.name) for column in fields(self))
        return Sample(*(None if column is None else column[rows] for column in columns))

    def __add__(self, other: "Sample") -> "Sample":
        """These rows, then those; both say the same kinds of things."""
        pairs = ((getattr(self, column.name), getattr(other, column.name)) for column in fields(self))
        return Sample(*(None if one is None or two is None else np.concatenate([one, two]) for one, two in pairs))

    def could_show(self, offer: int) -> np.ndarray:
        """(n,) bool: the rows on which an offer was eligible."""
        return np.ones(self.n, bool) if self.eligible is None else self.eligible[:, offer]


class Fit(Protocol):
    """A learner: fits p(conversion | context, offer), and gives a Predictor that serves without it."""

    def __call__(
        self, encoding: Encoding, sample: Sample, params: Params, seed: int, monotone: Mapping[str, int]
    ) -> Predictor: ...


def enough(sample: Sample, rows: np.ndarray, params: Params) -> bool:
    """Whether some rows (a mask) hold `min_rows`, and `min_positives` of each class."""
    count, positives = int(rows.sum()), int(sample.outcome[rows].sum())
    return count >= params["min_rows"] and min(positives, count - positives) >= params["min_positives"]


def baseline(encoding: Encoding, sample: Sample) -> int:
    """What the effects of the others are measured against: NOTHING where it was shown, else the best single offer.

    That is the one whose conversions would be most if everybody eligible got it; rates are weighted by 1/probability.
    """
    nothing = encoding.index.get(NOTHING)
    if nothing is not None and (sample.offers == nothing).any():
        return nothing
    weight = 1.0 if sample.probability is None else 1.0 / sample.probability
    size = len(encoding.offers)
    shown = np.bincount(sample.offers, weights=np.broadcast_to(weight, sample.n), minlength=size)
    converted = np.bincount(sample.offers, weights=weight * sample.weights * sample.outcome, minlength=size)
    reach = np.array([sample.could_show(offer).sum() for offer in range(size)])
    return int(np.argmax(np.divide(converted, shown, out=np.zeros(size), where=shown > 0) * reach))


def known_probabilities(sample: Sample) -> np.ndarray:
    """(n,). Raises UserError where the logging policy's probabilities are not known."""
    if sample.probability is None:
        raise UserError("The dr_learner needs the logged probability of every decision.")
    return sample.probability
