"""Exact LightGBM scoring for many offers of one user: by a C extension, or by numpy where there is none.

Within a request the user's columns are the same for every offer. So the masks of leaves that they leave open (see
`models.masks`) are ANDed once, each offer's when the model loads, and a score is the sum, in tree order, of the leaves
at the lowest bits of `user & offer`: LightGBM's raw score to the last bit. A column that crosses the two, such as the
user's budget × the offer's price, is one more AND for each offer and request.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decisioning.errors import UserError
from models.by_c import NOT_BUILT, ByC
from models.by_numpy import ByNumpy
from models.crossing import Crossing
from models.masks import Parts, masks_of
from models.trees import Forest

C, NUMPY = "c", "numpy"
WISH = "SEGUE_SCORER"
"""The variable of the environment that says which of the two it shall be."""


@dataclass(frozen=True, slots=True)
class Way:
    """How trees are scored, and why not in another way."""

    name: str
    """C or NUMPY."""
    why: str = ""

    def slower(self, why: str) -> "Way | None":
        """What to try where this one proves wrong."""
        return Way(NUMPY, why) if self.name == C else None


def fastest() -> Way:
    """C where it is built and nobody wishes otherwise. Raises UserError for a wish that can't come true."""
    wish = os.environ.get(WISH, "")
    if wish not in ("", C, NUMPY):
        raise UserError(f"{WISH} is {wish!r}: it is {C}, {NUMPY}, or unset for the faster one that works.")
    if wish == NUMPY:
        return Way(NUMPY, f"{WISH}={NUMPY}")
    if NOT_BUILT:
        if wish == C:
            raise UserError(f"{WISH} is {C}, but {NOT_BUILT}: build it with a C compiler at hand (`make setup`).")
        return Way(NUMPY, NOT_BUILT)
    return Way(C)


class TreeScorer:
    """The raw scores of a forest whose columns are a context block, the offer block, and then the crossings.

    `offers` is the (offers, offer columns) matrix of `Encoding.offer_matrix`, fixed when the model loads.
    """

    def __init__(
        self,
        forest: Forest,
        context_columns: int,
        offers: np.ndarray,
        crossings: Sequence[Crossing] = (),
        way: Way | None = None,
    ) -> None:
        masks = masks_of([forest], context_columns + offers.shape[1] + len(crossings))
        self.way = way or fastest()
        self._engine = _engine(self.way, Parts.of(masks, context_columns, offers, crossings))
        self.raw = self._engine.scores
        self.masks = self._engine.masks if isinstance(self._engine, ByC) else None
        """The extension's own object, where it scores."""

    def matrix(self, contexts: np.ndarray, offers: Sequence[int]) -> np.ndarray:
        """The raw scores of some offers for many context rows: (n, context columns) → (n, len(offers)) float64."""
        return self._engine.matrix(contexts, list(offers))


class ForestsScorer:
    """Several forests over the same context columns, scored at once."""

    def __init__(self, forests: Sequence[Forest], context_columns: int, way: Way | None = None) -> None:
        masks = masks_of(forests, context_columns)
        self.way = way or fastest()
        self._engine = _engine(self.way, Parts.of(masks, context_columns, np.zeros((1, 0)), ()))
        self._all = list(range(len(forests)))

    def raw(self, context: Sequence[float]) -> list[float]:
        """(forests,) raw scores of one context row."""
        return self._engine.scores(context, self._all)

    def matrix(self, contexts: np.ndarray) -> np.ndarray:
        """(n, context columns) → (n, forests) float64."""
        return self._engine.matrix(contexts, self._all)


def _engine(way: Way, parts: Parts) -> ByC | ByNumpy:
    return ByC(parts) if way.name == C else ByNumpy(parts)
