"""Exact LightGBM scoring for many offers of one user, in numpy alone.

Within a request the user's columns are the same for every offer. Each split sends away the leaves on one of its sides;
with leaves numbered from left to right and only *failed* tests (value goes right) clearing the bits of their left
subtree, the lowest bit that survives is the leaf reached (QuickScorer: Lucchese and others, SIGIR 2015). So the
AND over a user's columns is computed once, each offer's AND when the model loads, and a score is the sum, in tree
order, of the leaves at the lowest bits of `user & offer`: LightGBM's raw score to the last bit.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.trees import ZERO, Forest, Tree, leaves_in_order, left_leaves

BATCH = 512
"""Context rows at once: the masks of so many stay in the processor's cache, which makes a quarter of the time."""
FORESTS_BATCH = 4096
"""The same for several forests, divided by their number."""
NO_TREE = Tree((), (), (), (), (), (), (0.0,))


@dataclass(frozen=True, slots=True)
class _Column:
    """The masks of one column: one row per threshold interval, then one for missing and one for zero."""

    column: int
    thresholds: tuple[float, ...]
    base: int
    """Its first row in the table of all rows."""
    trees: np.ndarray
    """The trees that split on it."""
    masks: np.ndarray
    """(trees that split on it, rows): its part of the table, for many rows at once."""

    def row(self, value: float) -> int:
        if value != value:
            return self.base + len(self.thresholds) + 1
        if -ZERO <= value <= ZERO:
            return self.base + len(self.thresholds) + 2
        return self.base + bisect_left(self.thresholds, value)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The same for many values, counted from the column's own first row."""
        found = np.searchsorted(np.array(self.thresholds), values)
        found[np.isnan(values)] = len(self.thresholds) + 1
        found[np.abs(values) <= ZERO] = len(self.thresholds) + 2
        return found


class TreeScorer:
    """The raw scores of a forest whose columns are a context block and then the offer block.

    `offers` is the (offers, offer columns) matrix of `Encoding.offer_matrix`, fixed when the model loads.
    """

    def __init__(self, forest: Forest, context_columns: int, offers: np.ndarray) -> None:
        if forest.columns != context_columns + offers.shape[1]:
            raise ValueError(f"the forest has {forest.columns} columns, not {context_columns} + {offers.shape[1]}")
        leaves = max((len(tree.leaf) for tree in forest.trees), default=1)
        self._word = next(word for word in (np.uint8, np.uint16, np.uint32, np.uint64) if leaves <= word(0).nbytes * 8)
        order = [list(leaves_in_order(tree)) for tree in forest.trees]
        self._values = np.zeros((len(forest.trees), leaves))
        for tree, leaf_order, row in zip(forest.trees, order, self._values, strict=True):
            row[: len(leaf_order)] = [tree.leaf[leaf] for leaf in leaf_order]
        self._first = np.arange(len(forest.trees), dtype=np.intp)[:, None] * leaves
        self._values = self._values.ravel()
        columns, self._table = _tabulate(forest, order, self._word)
        self._context = [column for column in columns if column.column < context_columns]
        self._offers = self._offer_masks([c for c in columns if c.column >= context_columns], context_columns, offers)

    def _offer_masks(self, columns: Sequence[_Column], first: int, offers: np.ndarray) -> np.ndarray:
        masks = np.full((self._table.shape[1], len(offers)), np.iinfo(self._word).max, self._word)
        for index, offer in enumerate(offers):
            rows = [column.row(float(offer[column.column - first])) for column in columns]
            masks[:, index] &= np.bitwise_and.reduce(self._table[rows], axis=0)
        return masks

    def raw(self, context: Sequence[float], offers: np.ndarray) -> np.ndarray:
        """The raw scores of the offers with these row numbers, for one context row: (len(offers),) float64."""
        return self._sum(self._offers[:, offers] & self._user(context)[:, None])

    def matrix(self, contexts: np.ndarray, offers: np.ndarray) -> np.ndarray:
        """The raw scores of some offers for many context rows: (n, context columns) → (n, len(offers)) float64."""
        out = np.empty((len(contexts), len(offers)))
        for start in range(0, len(contexts), BATCH):
            user = self._users(contexts[start : start + BATCH])
            for index, offer in enumerate(offers):
                out[start : start + BATCH, index] = self._sum(user & self._offers[:, offer, None])
        return out

    def leaves(self, contexts: np.ndarray | Sequence[float]) -> np.ndarray:
        """What each tree gives the first offer: (n, context columns), or one row of them → (trees, n) float64."""
        users = self._users(contexts) if isinstance(contexts, np.ndarray) else self._user(contexts)[:, None]
        return self._leaves(users & self._offers[:, 0, None])

    def _user(self, context: Sequence[float]) -> np.ndarray:
        """(trees,) masks of the leaves that one context row leaves open."""
        rows = [column.row(context[column.column]) for column in self._context]
        return np.bitwise_and.reduce(self._table[rows], axis=0)

    def _users(self, contexts: np.ndarray) -> np.ndarray:
        """(trees, n) masks of the leaves that the context columns leave open."""
        user = np.full((self._table.shape[1], len(contexts)), np.iinfo(self._word).max, self._word)
        for column in self._context:
            # A column has a say in the trees that split on it, which are few: the others stay as they are.
            user[column.trees] &= column.masks[:, column.rows(contexts[:, column.column].astype(np.float64))]
        return user

    def _leaves(self, masks: np.ndarray) -> np.ndarray:
        """(trees, m) masks of open leaves → (trees, m) values of the lowest ones."""
        leaf = np.bitwise_count(~masks & (masks - self._word(1)))
        return self._values.take(leaf + self._first)

    def _sum(self, masks: np.ndarray) -> np.ndarray:
        """(trees, m) masks → (m,) sums over the trees."""
        return in_order(self._leaves(masks))


class ForestsScorer:
    """Several forests over the same context columns, scored at once: their trees stand interleaved in one table.

    Forests with fewer trees are filled up with trees that add 0, so that every sum keeps its order and its bits.
    """

    def __init__(self, forests: Sequence[Forest], context_columns: int) -> None:
        if any(forest.columns != context_columns for forest in forests):
            raise ValueError(f"a forest has other columns than the {context_columns} of the context")
        self._rounds, self._forests = max(len(forest.trees) for forest in forests), len(forests)
        rounds = [[*forest.trees, *[NO_TREE] * (self._rounds - len(forest.trees))] for forest in forests]
        trees = tuple(tree for together in zip(*rounds, strict=True) for tree in together)
        self._scorer = TreeScorer(Forest(context_columns, trees), context_columns, np.zeros((1, 0)))
        self._batch = max(1, FORESTS_BATCH // len(forests))

    def raw(self, context: Sequence[float]) -> np.ndarray:
        """(forests,) float64 raw scores of one context row."""
        return in_order(self._scorer.leaves(list(context)).reshape(self._rounds, self._forests))

    def matrix(self, contexts: np.ndarray) -> np.ndarray:
        """(n, context columns) → (n, forests) float64."""
        out = np.empty((len(contexts), self._forests))
        for start in range(0, len(contexts), self._batch):
            leaves = self._scorer.leaves(contexts[start : start + self._batch])
            count = leaves.shape[1]
            out[start : start + self._batch] = in_order(leaves.reshape(self._rounds, -1)).reshape(-1, count).T
        return out


def in_order(values: np.ndarray) -> np.ndarray:
    """(trees, m) → (m,) sums in tree order, as LightGBM adds.

    Reducing axis 0 of a C-ordered array adds row by row. One column alone would be summed pairwise: it is accumulated.
    """
    if values.shape[1] == 1:
        return np.add.accumulate(values, axis=0)[-1] if len(values) else np.zeros(1)
    return np.add.reduce(values, axis=0)


def _tabulate(forest: Forest, order: Sequence[Sequence[int]], word: type) -> tuple[list[_Column], np.ndarray]:
    """For each column that the forest splits on, the rows of masks of all trees: (rows, trees)."""
    splits: dict[int, list[tuple[int, int, int]]] = {}
    for number, (tree, leaf_order) in enumerate(zip(forest.trees, order, strict=True)):
        bit = {leaf: 1 << place for place, leaf in enumerate(leaf_order)}
        for node, leaves in enumerate(left_leaves(tree)):
            splits.setdefault(tree.feature[node], []).append((number, node, sum(bit[leaf] for leaf in leaves)))
    full = np.iinfo(word).max
    columns, tables, base = [], [np.empty((0, len(forest.trees)), word)], 0
    for feature, nodes in sorted(splits.items()):
        thresholds = tuple(sorted({forest.trees[number].threshold[node] for number, node, _ in nodes}))
        place = {threshold: index for index, threshold in enumerate(thresholds)}
        table = np.full((len(thresholds) + 3, len(forest.trees)), full, word)
        for number, node, left in nodes:
            tree, keep = forest.trees[number], word(full ^ left)
            table[place[tree.threshold[node]] + 1 : -2, number] &= keep  # values above the threshold go right
            if not tree.goes_left(node, float("nan")):
                table[-2, number] &= keep
            if not tree.goes_left(node, 0.0):
                table[-1, number] &= keep
        trees = np.unique([number for number, _, _ in nodes])
        columns.append(_Column(feature, thresholds, base, trees, np.ascontiguousarray(table[:, trees].T)))
        tables.append(table)
        base += len(table)
    return columns, np.concatenate(tables)
