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

from models.trees import ZERO, Forest, leaves_in_order, left_leaves

BATCH = 4096


@dataclass(frozen=True, slots=True)
class _Column:
    """The masks of one column: one row per threshold interval, then one for missing and one for zero."""

    column: int
    thresholds: tuple[float, ...]
    base: int
    """Its first row in the table of all rows."""

    def row(self, value: float) -> int:
        if value != value:
            return self.base + len(self.thresholds) + 1
        if -ZERO <= value <= ZERO:
            return self.base + len(self.thresholds) + 2
        return self.base + bisect_left(self.thresholds, value)

    def rows(self, values: np.ndarray) -> np.ndarray:
        found = np.searchsorted(np.array(self.thresholds), values)
        found[np.isnan(values)] = len(self.thresholds) + 1
        found[np.abs(values) <= ZERO] = len(self.thresholds) + 2
        return found + self.base


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
        rows = [column.row(context[column.column]) for column in self._context]
        user = np.bitwise_and.reduce(self._table[rows], axis=0)
        return self._sum(self._offers[:, offers] & user[:, None])

    def batch(self, contexts: np.ndarray, offer: int) -> np.ndarray:
        """The raw scores of one offer for many context rows: (n, context columns) → (n,) float64."""
        return self.matrix(contexts, np.array([offer]))[:, 0]

    def matrix(self, contexts: np.ndarray, offers: np.ndarray) -> np.ndarray:
        """The raw scores of some offers for many context rows: (n, context columns) → (n, len(offers)) float64."""
        out = np.empty((len(contexts), len(offers)))
        for start in range(0, len(contexts), BATCH):
            chunk = contexts[start : start + BATCH]
            user = np.full((self._table.shape[1], len(chunk)), np.iinfo(self._word).max, self._word)
            for column in self._context:
                user &= self._table[column.rows(chunk[:, column.column].astype(np.float64))].T
            for index, offer in enumerate(offers):
                out[start : start + BATCH, index] = self._sum(user & self._offers[:, offer, None])
        return out

    def _sum(self, masks: np.ndarray) -> np.ndarray:
        """(trees, m) masks of reachable leaves → (m,) sums of the lowest ones, added in tree order."""
        leaf = np.bitwise_count(~masks & (masks - self._word(1)))
        # Reducing axis 0 of a C-ordered array adds row by row. One column alone would be summed pairwise: pad it.
        values = self._values.take(leaf + self._first)
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
        columns.append(_Column(feature, thresholds, base))
        tables.append(table)
        base += len(table)
    return columns, np.concatenate(tables)
