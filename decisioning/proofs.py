"""What is proved of one catalog: each thing once, and all of it together within a bounded number of steps."""

from collections.abc import Mapping

from decisioning.catalog import FeatureSpec
from decisioning.conditions import AllOf, Condition, complement
from decisioning.satisfiable import MAX_STEPS, Search, TooManyAlternatives

MAX_TOGETHER = 1_000_000
"""Steps of all proofs of a catalog: two seconds. One at every published limit takes a fifth of them."""
SMALL = 2_000
"""The steps that a proof may always take, whatever the others took."""
_START = 10
"""What it takes to begin a proof, in steps."""

EVERYBODY = AllOf(())


class Proofs:
    """The proofs about one catalog's features."""

    def __init__(self, features: Mapping[str, FeatureSpec]) -> None:
        self._features = features
        self._left = MAX_TOGETHER
        self._seen: dict[int, tuple[int, Condition]] = {}
        """By identity: the number of a condition. Holding the condition keeps its identity its own."""
        self._numbers: dict[Condition, int] = {}
        self._complements: dict[int, Condition] = {}
        self._possible: dict[frozenset[int], bool] = {}

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def satisfiable(self, condition: Condition, at_least: int = SMALL) -> bool:
        """Whether somebody could meet a condition. Raises TooManyAlternatives where that can't be told in time."""
        allowed = min(max(self._left, at_least), MAX_STEPS)
        search = Search(self._features, allowed)
        try:
            return search.finds(condition)
        finally:
            self._left -= allowed - search.left + _START

    def possible(self, *conditions: Condition) -> bool:
        """Whether somebody could meet all of the conditions; what can't be told in time counts as possible."""
        key = frozenset(map(self._number, conditions))
        if key not in self._possible:
            try:
                self._possible[key] = self.satisfiable(AllOf(conditions), 0)
            except TooManyAlternatives:
                self._possible[key] = True
        return self._possible[key]

    def complement(self, condition: Condition) -> Condition:
        """What holds wherever the condition does not."""
        number = self._number(condition)
        if number not in self._complements:
            self._complements[number] = complement(condition)
        return self._complements[number]

    def _number(self, condition: Condition) -> int:
        """Equal conditions have one number; what was seen is not looked at again."""
        seen = self._seen.get(id(condition))
        if seen is None:
            number = self._numbers.setdefault(condition, len(self._numbers))
            seen = self._seen[id(condition)] = (number, condition)
        return seen[0]
