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
        self._bits = np.iinfo(masks.table.dtype).bits
        # One array for each word of the masks: nearly always there is but one.
        self._tables = list(np.ascontiguousarray(np.moveaxis(masks.table, 2, 0)))
        self._offers = list(np.ascontiguousarray(np.moveaxis(parts.offers, 2, 0)))
        self._values = masks.values.ravel()
        self._first = np.arange(trees, dtype=np.intp) * leaves - 1  # lowest bits are counted from 1
        self._firsts = np.tile(self._first, (len(parts.offers), 1))  # whole, as broadcasting it takes twice as long
        self._by_tree = {column.place: self._turned(column) for column in masks.columns}
        self._columns = [(c.place, c.base, c.cuts.tolist(), c.base + len(c.cuts) + 1) for c in parts.context]

    def _turned(self, column: Column) -> list[np.ndarray]:
        """For each word, the column's part of the table: (trees that split on it, rows)."""
        rows = slice(column.base, column.base + len(column.cuts) + 2)
        return [np.ascontiguousarray(table[rows, column.trees].T) for table in self._tables]

    def scores(self, context: Sequence[float], asked: Sequence[int]) -> list[float]:
        """The raw scores of some offers, for one context row; of several forests, those of some forests."""
        if not asked:
            return []
        rows = [
            base + bisect_left(cuts, value) if (value := context[place]) == value else missing
            for place, base, cuts, missing in self._columns
        ]
        offers, masks = asked if self._forests == 1 else [0], []
        selected = self._crossed(context, offers)
        for table, offer_masks in zip(self._tables, self._offers, strict=True):
            found = offer_masks.take(offers, axis=0)
            found &= np.bitwise_and.reduce(table.take(rows, axis=0), axis=0)
            for column, crossed in selected:
                found &= table[column.base + crossed]
            masks.append(found)
        first = self._firsts[: len(offers)] if len(offers) <= len(self._firsts) else self._first
        leaves = self._leaves(masks, first).T
        sums = in_order(np.ascontiguousarray(leaves).reshape(self._rounds, -1)).tolist()
        return sums if self._forests == 1 else [sums[forest] for forest in asked]

    def _crossed(self, context: Sequence[float], offers: Sequence[int]) -> list[tuple[Column, np.ndarray]]:
        """What the offers' crossings select: (len(offers),) rows, counted from the column's first one."""
        row = np.array([context]) if self._parts.crossings else None
        return [(column, column.rows(crossing.of(row, offers)[0])) for crossing, column in self._parts.crossings]

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
                leaves = self._leaves(users, self._first[:, None]).reshape(self._rounds, -1)
                out[start : start + step] = in_order(leaves).reshape(self._forests, -1).T[:, asked]
        return out

    def _of_offer(self, users: list[np.ndarray], contexts: np.ndarray, offer: int) -> np.ndarray:
        masks = [user & masks[offer, :, None] for user, masks in zip(users, self._offers, strict=True)]
        for crossing, column in self._parts.crossings:
            self._narrow(masks, column, column.rows(crossing.of(contexts, [offer])[:, 0]))
        return in_order(self._leaves(masks, self._first[:, None]))

    def _users(self, contexts: np.ndarray) -> list[np.ndarray]:
        """For each word, (trees, n) masks of the leaves that the context columns leave open."""
        shape = len(self._first), len(contexts)
        users = [np.full(shape, np.iinfo(table.dtype).max, table.dtype) for table in self._tables]
        for column in self._parts.context:
            self._narrow(users, column, column.rows(contexts[:, column.place].astype(np.float64)))
        return users

    def _narrow(self, masks: list[np.ndarray], column: Column, rows: np.ndarray) -> None:
        """AND a column's rows into (trees, n) masks. Trees that don't split on it stay as they are."""
        for mask, table in zip(masks, self._by_tree[column.place], strict=True):
            mask[column.trees] &= table[:, rows]

    def _leaves(self, masks: list[np.ndarray], first: np.ndarray) -> np.ndarray:
        """For each word, masks of open leaves → the values of the lowest ones, in the same shape.

        `first`, which broadcasts to that: where the values of a mask's tree begin, less one.
        """
        index = _lowest(masks[-1]).astype(np.intp)
        if len(masks) > 1:
            index += self._bits * (len(masks) - 1)
            for word in reversed(range(len(masks) - 1)):
                index = np.where(masks[word] != 0, _lowest(masks[word]) + np.intp(self._bits * word), index)
        index += first
        return self._values.take(index, mode="clip")


def _lowest(masks: np.ndarray) -> np.ndarray:
    """The number of the lowest bit, counted from 1."""
    until = masks - masks.dtype.type(1)
    until ^= masks
    return np.bitwise_count(until)


def in_order(values: np.ndarray) -> np.ndarray:
    """(trees, m) → (m,) sums in tree order, as LightGBM adds.

    Along the first axis of a C-ordered array, einsum adds row by row, in half the time of np.add.reduce. One column
    alone would be summed in another order: it is accumulated.
    """
    if values.shape[1] == 1:
        return np.add.accumulate(values, axis=0)[-1]
    return np.einsum("ij->j", values)
