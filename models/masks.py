"""A forest turned into tables of bit masks: what `models.scorer` and `models/_bits.c` score with.

Leaves are counted from left to right, a bit each. A test that a value fails sends it right, and so clears the bits of
the leaves below its left child; the lowest bit that is left in the end is the leaf reached (QuickScorer: Lucchese and
others, SIGIR 2015). The values of a column lie in intervals within which every test of the forest has the same outcome,
so each interval, and a missing value, has one row of masks: those of all trees, with all failed tests in them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.crossing import Crossing
from models.trees import ZERO, Forest, Plan, Tree, TreeError, plan

BEFORE_ZERO = math.nextafter(-ZERO, -math.inf)
LARGEST = 1 << 30
"""Bytes of a table. The reference model (200 trees of 31 leaves over 60 columns) takes 4 million."""
NO_TREE = Tree((), (), (), (), (), (), (0.0,), {})
_Node = tuple[int, int]
"""The number of a tree, and of a node in it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a forest splits on."""

    place: int
    """Which of the forest's columns it is."""
    cuts: np.ndarray
    """(k,) float64 ascending: interval i holds what is above cut i − 1, and not above cut i."""
    base: int
    """Its first row in the table: of k + 1 intervals, then of a missing value."""
    trees: np.ndarray
    """The trees that split on it."""

    def rows(self, values: np.ndarray) -> np.ndarray:
        """(n,) float64 → (n,) the rows of these values, counted from its first one."""
        found = np.searchsorted(self.cuts, values)
        found[np.isnan(values)] = len(self.cuts) + 1
        return found


@dataclass(frozen=True, slots=True)
class Masks:
    """The tables of some forests over the same columns, whose trees stand interleaved: the first of each, and so on."""

    columns: tuple[Column, ...]
    table: np.ndarray
    """(rows, trees, words) unsigned: the leaves left open. A tree's last leaf is never closed."""
    values: np.ndarray
    """(trees, leaves) float64, leaves from left to right."""
    forests: int

    def open_by(self, columns: Sequence[Column], values: np.ndarray) -> np.ndarray:
        """(n, len(columns)) float64 → (n, trees, words): what these columns leave open."""
        found = np.full((len(values), *self.table.shape[1:]), np.iinfo(self.table.dtype).max, self.table.dtype)
        for column, numbers in zip(columns, values.T, strict=True):
            found &= self.table[column.base + column.rows(numbers)]
        return found


class Parts(NamedTuple):
    """Who has a say in which leaves of `masks` are open: users, offers, and what they make together."""

    masks: Masks
    width: int
    """How many columns the context has."""
    context: list[Column]
    offers: np.ndarray
    """(offers, trees, words) of what their own columns leave open."""
    crossings: list[tuple[Crossing, Column]]

    @classmethod
    def of(cls, masks: Masks, width: int, offers: np.ndarray, crossings: Sequence[Crossing]) -> "Parts":
        """The forests' columns are the context's, those of `offers` (offers, columns), then one for each crossing."""
        after = width + offers.shape[1]
        own = [column for column in masks.columns if width <= column.place < after]
        return cls(
            masks,
            width,
            [column for column in masks.columns if column.place < width],
            masks.open_by(own, offers[:, [column.place - width for column in own]].astype(float)),
            [(crossings[column.place - after], column) for column in masks.columns if column.place >= after],
        )


def masks_of(forests: Sequence[Forest], columns: int) -> Masks:
    """Raises ValueError for forests of other columns, and TreeError where the tables would be too large."""
    odd = next((forest for forest in forests if forest.columns != columns), None)
    if odd is not None:
        raise ValueError(f"a forest has {odd.columns} columns, not {columns}")
    trees = list(_interleaved(forests))
    plans = [plan(tree) for tree in trees]
    leaves = max((len(tree.leaf) for tree in trees), default=1)
    values = np.zeros((len(trees), leaves))
    for row, tree, (order, _) in zip(values, trees, plans, strict=True):
        row[: len(order)] = [tree.leaf[leaf] for leaf in order]
    found, table = _tabulate(trees, plans, *_word(leaves))
    return Masks(tuple(found), table, values, len(forests))


def _interleaved(forests: Sequence[Forest]) -> Iterator[Tree]:
    """Forests with fewer trees are filled up with trees that add 0, so that every sum keeps its order and its bits."""
    for number in range(max(1, *(len(forest.trees) for forest in forests))):
        for forest in forests:
            yield forest.trees[number] if number < len(forest.trees) else NO_TREE


def _word(leaves: int) -> tuple[type, int]:
    """The smallest word that has a bit for each leaf, or how many of the largest it takes."""
    for word in (np.uint8, np.uint16, np.uint32):
        if leaves <= np.iinfo(word).bits:
            return word, 1
    return np.uint64, -(-leaves // 64)


def _tabulate(trees: Sequence[Tree], plans: Sequence[Plan], word: type, words: int) -> tuple[list[Column], np.ndarray]:
    nodes: dict[int, list[_Node]] = {}
    for number, tree in enumerate(trees):
        for node, place in enumerate(tree.feature):
            nodes.setdefault(place, []).append((number, node))
    columns, base = [], 0
    for place, own in sorted(nodes.items()):
        cuts = _cuts(trees, own)
        columns.append(Column(place, cuts, base, np.unique([number for number, _ in own])))
        base += len(cuts) + 2
    if base * len(trees) * words * np.iinfo(word).bits // 8 > LARGEST:
        raise TreeError(f"{len(trees)} trees with {base:,} intervals of values make too large tables: train fewer")
    table = np.full((base, len(trees), words), np.iinfo(word).max, word)
    for column in columns:
        _close(table[column.base :], column.cuts, nodes[column.place], trees, plans)
    return columns, table


def _cuts(trees: Sequence[Tree], nodes: Sequence[_Node]) -> np.ndarray:
    """All cuts of a column. What LightGBM takes for zero is one interval where anything cuts it."""
    cuts = {cut for number, node in nodes for cut in trees[number].cuts(node)}
    if any(-ZERO <= cut < ZERO for cut in cuts):
        cuts = {cut for cut in cuts if not -ZERO <= cut < ZERO} | {BEFORE_ZERO, ZERO}
    return np.array(sorted(cuts))


def _close(
    rows: np.ndarray, cuts: np.ndarray, nodes: Sequence[_Node], trees: Sequence[Tree], plans: Sequence[Plan]
) -> None:
    """Clear what failed tests close, in a column's rows. Each interval is tried with one of its values."""
    tried = np.array([*np.where(cuts == ZERO, 0.0, cuts), math.inf, math.nan])
    bits = np.iinfo(rows.dtype).bits
    for number, node in nodes:
        first, after = plans[number].spans[node]
        closed = ((1 << after) - 1) ^ ((1 << first) - 1)
        kept = [~(closed >> bits * at) & (1 << bits) - 1 for at in range(rows.shape[2])]
        rows[np.flatnonzero(~trees[number].goes_left(node, tried)), number] &= np.array(kept, rows.dtype)
