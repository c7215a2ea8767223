"""What a learner is given: training rows, and its parameters."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from decisioning.domain import NOTHING
from decisioning.errors import UserError
from models.encoding import Encoding
from models.predictors import Predictor

Params = Mapping[str, float | int | str | bool]
COLUMNS = ("offers", "outcome", "weights", "probability", "eligible")


@dataclass(frozen=True)
class Sample:
    """Training rows: contexts, and arrays of the same length.

    A part of a sample knows the whole that it was taken from: its contexts are copied only when they are asked for, and
    what costs much to prepare (LightGBM's bins) is made once for the whole and kept in its `prepared`.
    """

    table: np.ndarray
    """(whole, context columns) float32."""
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
    part_of: "Sample | None" = None
    rows: np.ndarray | None = None
    """(n,) the places of a part's rows in its whole, ascending; None: it is the whole."""

    @property
    def n(self) -> int:
        return len(self.offers)

    @property
    def whole(self) -> "Sample":
        return self.part_of or self

    @cached_property
    def contexts(self) -> np.ndarray:
        """(n, context columns) float32."""
        return self.table if self.rows is None else self.table[self.rows]

    @cached_property
    def prepared(self) -> dict[Hashable, Any]:
        """What learners made of this whole, for all that is taken from it."""
        return {}

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the rows, by mask or by ascending index."""
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = (getattr(self, name) for name in COLUMNS)
        taken = (None if column is None else column[places] for column in columns)
        return Sample(self.table, *taken, self.whole, places if self.rows is None else self.rows[places])

    def thinned(self, share: float, seed: int) -> "Sample":
        """All conversions, and about this share of the other rows, which weigh as much more: rates stay what they are.

        A row of the whole is kept or not whatever part it is in. Of the two corrections of King and Zeng (Political
        Analysis 2001) this is the one that holds for a model of any form; the other shifts log-odds by log(share).
        """
        drawn = np.random.default_rng(seed).random(self.whole.n) < share
        kept = (self.outcome > 0) | (drawn if self.rows is None else drawn[self.rows])
        taken = self.take(kept)
        return replace(taken, weights=np.where(taken.outcome > 0, taken.weights, taken.weights / share)).apart()

    def apart(self) -> "Sample":
        """The same rows as a whole of their own, which knows nothing of where they were taken from."""
        return Sample(self.contexts, *(getattr(self, name) for name in COLUMNS))

    def __getstate__(self) -> dict[str, Any]:
        """What was prepared stays behind: it is LightGBM's own, and made again where it is needed."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __add__(self, other: "Sample") -> "Sample":
        """These rows, then those; both say the same kinds of things."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("contexts", *COLUMNS))
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
