"""Scoring with tables of masks in numpy alone."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from models.masks import Column, Parts

BATCH = 512
"""Context rows at once: the masks of so many stay in the processor's cache, which makes a quarter of the time."""
FORESTS_BATCH = 4096
"""The same for several forests, divided by their number."""


class ByNumpy:
    """Keeps nothing between two calls, so that threads may share it."""

    def __init__(self, parts: Parts) -> None:
        masks = parts.masks
        trees, leaves = masks.values.shape
        self._parts, self._forests, self._rounds = parts, masks.forests, trees // masks.forests
        self._one = np.ones((), masks.table.dtype)  # an array, as a number would be made one in every call
        # For each word of the masks, nearly always one: the table, and what the offers' own columns leave open.
        self._words = [
            (np.ascontiguousarray(masks.table[:, :, word]), np.ascontiguousarray(parts.offers[:, :, word]))
            for word in range(masks.table.shape[2])
        ]
        self._values = np.append(0.0, masks.values)  # one before all, as lowest bits are counted from 1
        # In the smallest type that will do: what is passed over most often is then a quarter as long as with `intp`.
        self._first = np.arange(0, trees * leaves, leaves).astype(np.min_scalar_type(trees * leaves))
        self._bits = self._first.dtype.type(np.iinfo(masks.table.dtype).bits)
        self._by_tree = {column.place: self._turned(column) for column in masks.columns}
        columns = [(c.place, c.base, c.cuts.tolist(), c.base + len(c.cuts) + 1) for c in parts.context]
        # One cut, as all columns have that are 0 or 1, needs no search.
        self._columns = [column for column in columns if len(column[2]) != 1]
        self._halved = [(place, base, cuts[0], missing) for place, base, cuts, missing in columns if len(cuts) == 1]

    def _turned(self, column: Column) -> list[np.ndarray]:
        """For each word, the column's part of the table: (trees that split on it, rows)."""
        rows = slice(column.base, column.base + len(column.cuts) + 2)
        return [np.ascontiguousarray(table[rows, column.trees].T) for table, _ in self._words]

    def scores(self, context: Sequence[float], asked: Sequence[int]) -> list[float]:
        """The raw scores of some offers, for one context row; of several forests, those of some forests."""
        if not asked:
            return []
        rows = [
            base + bisect_left(cuts, value) if (value := context[place]) == value else missing
            for place, base, cuts, missing in self._columns
        ]
        rows += [
            base + (value > cut) if (value := context[place]) == value else missing
            for place, base, cut, missing in self._halved
        ]
        offers, masks = asked if self._forests == 1 else [0], []
        crossed = self._crossed(context, offers) if self._parts.crossings else ()
        for table, open_by in self._words:
            found = open_by.take(offers, axis=0)
            found &= np.bitwise_and.reduce(table.take(rows, axis=0), axis=0)
            for selected in crossed:
                found &= table[selected]
            masks.append(found)
        # Taking copies the numbers anyway, so that to turn them is nearly free here, and leaves come tree by tree.
        leaves = self._values.take(self._lowest(masks, self._first).T, mode="clip")
        if self._forests == 1:
            return in_order(leaves).tolist()
        sums = in_order(leaves.reshape(self._rounds, -1)).tolist()
        return [sums[forest] for forest in asked]

    def _crossed(self, context: Sequence[float], offers: Sequence[int]) -> list[np.ndarray]:
        """The (len(offers),) rows of the table that each crossing selects."""
        row = np.array([context])
        return [column.base + column.rows(crossing.of(row, offers)[0]) for crossing, column in self._parts.crossings]

    def matrix(self, contexts: np.ndarray, asked: Sequence[int]) -> np.ndarray:
        """(n, context columns) → (n, len(asked)) float64."""
        out = np.empty((len(contexts), len(asked)))
        step = BATCH if self._forests == 1 else max(1, FORESTS_BATCH // self._forests)
        for start in range(0, len(contexts), step):
            rows = contexts[start : start + step]
            users = self._users(rows)
            if self._forests == 1:
                for index, offer in enumerate(asked):
                    out[start : start + step, index] = self._of_offer(users, rows, offer)
            else:
                leaves = self._leaves(users)
                out[start : start + step] = (
                    in_order(leaves.reshape(self._rounds, -1)).reshape(self._forests, -1).T[:, asked]
                )
        return out

    def _of_offer(self, users: list[np.ndarray], contexts: np.ndarray, offer: int) -> np.ndarray:
        masks = [user & open_by[offer, :, None] for user, (_, open_by) in zip(users, self._words, strict=True)]
        for crossing, column in self._parts.crossings:
            self._narrow(masks, column, column.rows(crossing.of(contexts, [offer])[:, 0]))
        return in_order(self._leaves(masks))

    def _users(self, contexts: np.ndarray) -> list[np.ndarray]:
        """For each word, (trees, n) masks of the leaves that the context columns leave open."""
        shape = len(self._first), len(contexts)
        users = [np.full(shape, np.iinfo(table.dtype).max, table.dtype) for table, _ in self._words]
        for column in self._parts.context:
            self._narrow(users, column, column.rows(contexts[:, column.place].astype(np.float64)))
        return users

    def _narrow(self, masks: list[np.ndarray], column: Column, rows: np.ndarray) -> None:
        """AND a column's rows into (trees, n) masks. Trees that don't split on it stay as they are."""
        for mask, table in zip(masks, self._by_tree[column.place], strict=True):
            mask[column.trees] &= table[:, rows]

    def _leaves(self, masks: list[np.ndarray]) -> np.ndarray:
        """For each word, (trees, n) masks → the values of the lowest leaves that are open, (trees, n)."""
        return self._values.take(self._lowest(masks, self._first[:, None]), mode="clip")

    def _lowest(self, masks: list[np.ndarray], first: np.ndarray) -> np.ndarray:
        """For each word, masks of open leaves → where the values of the lowest ones are, in the same shape.

        `first`, which broadcasts to that: where the values of a mask's tree begin.
        """
        found = None
        for word in reversed(masks):
            lowest = word - self._one
            lowest ^= word
            lowest = np.bitwise_count(lowest)  # counted from 1, in bytes
            found = lowest if found is None else np.where(word != 0, lowest, found + self._bits)
        return found + first


def in_order(values: np.ndarray) -> np.ndarray:
    """(trees, m) → (m,) sums in tree order, as LightGBM adds.

    Along the first axis of a C-ordered array, einsum adds row by row, in half the time of np.add.reduce. One column
    alone would be summed in another order: it is accumulated.
    """
    if values.shape[1] == 1:
        return np.add.accumulate(values, axis=0)[-1]
    return np.einsum("ij->j", values)
