"""LightGBM's native text model, read without LightGBM: trees as plain arrays, checked before anything trusts them.

The decision rules are LightGBM 4's `Tree::NumericalDecision` and `Tree::CategoricalDecision`. What can't be scored
exactly is refused here with the reason: linear trees, several classes, averaged output, more than MAX_LEAVES leaves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_LEAVES = 1024
# LightGBM's kZeroThreshold: the float 1e-35f as a double. Its predictions take what is no further from 0 for 0.
ZERO = 1.0000000180025095e-35

MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2


class TreeError(ValueError):
    """The text is no model, is damaged, or uses something that the scorer doesn't do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree. Child indices are LightGBM's: an inner node from 0, or ~leaf for a leaf. One leaf: no inner nodes."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    default_left: tuple[bool, ...]
    missing: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    leaf: tuple[float, ...]
    categories: Mapping[int, frozenset[int]]
    """Of the nodes that split by category: which categories go left."""

    def goes_left(self, node: int, values: np.ndarray) -> np.ndarray:
        """(n,) float64 → (n,) bool: which way values take at a node, as LightGBM decides it."""
        missing = np.isnan(values)
        if node in self.categories:
            known = np.where(missing | (np.abs(values) >= 2.0**31), -1.0, np.trunc(values))
            return np.isin(known, list(self.categories[node]))
        kind, low = self.missing[node], np.where(missing, 0.0, values) <= self.threshold[node]
        if kind == MISSING_NONE:
            return low
        astray = missing if kind == MISSING_NAN else missing | (np.abs(values) <= ZERO)
        return np.where(astray, self.default_left[node], low)

    def cuts(self, node: int) -> set[float]:
        """The numbers between which a node sends all values the same way: those up to and with a cut, and those above.

        Categories are whole numbers that values are cut to, so that 0 begins above −1, and k above the double before k.
        """
        if node in self.categories:
            edges = {edge for category in self.categories[node] for edge in (category, category + 1)}
            return {math.nextafter(edge, -math.inf) if edge else -1.0 for edge in edges}
        zero = {-ZERO, ZERO} if self.missing[node] == MISSING_ZERO else set()
        return {self.threshold[node]} | zero


@dataclass(frozen=True, slots=True)
class Forest:
    """A boosted model with one output. The raw score of a row is the sum of its leaves in tree order."""

    columns: int
    trees: tuple[Tree, ...]


def parse(text: str) -> Forest:
    """Read a native text model. Raises TreeError with what is wrong and where."""
    if not text.startswith("tree\n"):
        raise TreeError("this is no LightGBM text model: it doesn't start with 'tree'")
    if "\nend of trees" not in text:
        raise TreeError("the LightGBM model is cut off: 'end of trees' is missing")
    blocks = text.partition("\nend of trees")[0].split("\nTree=")
    head = _fields(blocks[0])
    for key in ("num_class", "num_tree_per_iteration"):
        if head.get(key) != "1":
            raise TreeError(f"the LightGBM model has {key}={head.get(key)}; the scorer does models with one output")
    if "\naverage_output" in blocks[0]:
        raise TreeError("the LightGBM model averages its trees (boosting=rf); the scorer does sums")
    columns = _int(head, "max_feature_idx", "the header") + 1
    sizes = head.get("tree_sizes", "").split()
    if len(sizes) != len(blocks) - 1:
        raise TreeError(f"the LightGBM model announces {len(sizes)} trees and holds {len(blocks) - 1}")
    return Forest(columns, tuple(_tree(block, number, columns) for number, block in enumerate(blocks[1:])))


def _fields(block: str) -> Mapping[str, str]:
    return {key: value for key, sep, value in (line.partition("=") for line in block.splitlines()) if sep}


def _int(fields: Mapping[str, str], key: str, where: str) -> int:
    found = _ints(fields, key, where)
    if len(found) != 1:
        raise TreeError(f"the LightGBM model has {len(found)} numbers for '{key}' in {where}, where one should stand")
    return found[0]


def _ints(fields: Mapping[str, str], key: str, where: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _numbers(fields, key, where, int))


def _floats(fields: Mapping[str, str], key: str, where: str) -> tuple[float, ...]:
    return tuple(_numbers(fields, key, where, float))


def _numbers(fields: Mapping[str, str], key: str, where: str, kind: type) -> list[float]:
    try:
        return [kind(word) for word in fields[key].split()]
    except KeyError:
        raise TreeError(f"the LightGBM model lacks '{key}' in {where}") from None
    except ValueError:
        raise TreeError(f"the LightGBM model has '{key}' in {where} that is not all numbers") from None


def _tree(block: str, number: int, columns: int) -> Tree:
    where = f"tree {number}"
    number_line, _, body = block.partition("\n")
    if number_line.strip() != str(number):
        raise TreeError(f"the LightGBM model has tree '{number_line.strip()}' where {where} should stand")
    fields = _fields(body)
    leaves = _int(fields, "num_leaves", where)
    if fields.get("is_linear", "0") != "0":
        raise TreeError(f"{where} is a linear tree, which the scorer doesn't do: train with linear_tree=false")
    if not 1 <= leaves <= MAX_LEAVES:
        raise TreeError(f"{where} has {leaves} leaves; the scorer does 1 to {MAX_LEAVES}: lower num_leaves")
    values = _floats(fields, "leaf_value", where)
    if leaves == 1:
        tree = Tree((), (), (), (), (), (), values, {})
    else:
        kinds, thresholds = _ints(fields, "decision_type", where), _floats(fields, "threshold", where)
        tree = Tree(
            _ints(fields, "split_feature", where),
            thresholds,
            tuple(bool(kind & 2) for kind in kinds),
            tuple(kind >> 2 & 3 for kind in kinds),
            _ints(fields, "left_child", where),
            _ints(fields, "right_child", where),
            values,
            _categories(fields, kinds, thresholds, where) if any(kind & 1 for kind in kinds) else {},
        )
    _check(tree, leaves, columns, where)
    return tree


def _categories(
    fields: Mapping[str, str], kinds: Sequence[int], thresholds: Sequence[float], where: str
) -> dict[int, frozenset[int]]:
    """The categories that go left, by node. A threshold is the number of a bit set, which lies between two bounds."""
    bounds, words = _ints(fields, "cat_boundaries", where), _ints(fields, "cat_threshold", where)
    if bounds[:1] != (0,) or list(bounds) != sorted(bounds) or bounds[-1] != len(words):
        raise TreeError(f"{where} is damaged: the bounds of its categories don't fit them")
    if not all(0 <= word < 2**32 for word in words):
        raise TreeError(f"{where} is damaged: its categories are no sets of bits")
    found = {}
    for node, (kind, threshold) in enumerate(zip(kinds, thresholds, strict=False)):
        if kind & 1:
            if not (0 <= threshold < len(bounds) - 1 and threshold == int(threshold)):
                raise TreeError(f"{where} is damaged: it splits on categories that aren't there")
            own = words[bounds[int(threshold)] : bounds[int(threshold) + 1]]
            members = (32 * at + bit for at, word in enumerate(own) for bit in range(32) if word >> bit & 1)
            found[node] = frozenset(members)
    return found


def _check(tree: Tree, leaves: int, columns: int, where: str) -> None:
    nodes = (tree.feature, tree.threshold, tree.default_left, tree.missing, tree.left, tree.right)
    if len(tree.leaf) != leaves or any(len(column) != leaves - 1 for column in nodes):
        raise TreeError(f"{where} is damaged: its lists don't have the lengths of {leaves} leaves")
    if not all(math.isfinite(value) for value in tree.leaf) or any(math.isnan(value) for value in tree.threshold):
        raise TreeError(f"{where} is damaged: it holds values that are not finite")
    if any(not 0 <= feature < columns for feature in tree.feature) or any(kind == 3 for kind in tree.missing):
        raise TreeError(f"{where} is damaged: it splits on a column or in a way that doesn't exist")
    if sorted(plan(tree, where).order) != list(range(leaves)):
        raise TreeError(f"{where} is damaged: not every leaf is reached exactly once")


class Plan(NamedTuple):
    """Where a tree's leaves stand when they are counted from left to right."""

    order: list[int]
    """The leaf at each place."""
    spans: list[tuple[int, int]]
    """For each inner node, the first place below its left child, and the one after the last."""


def plan(tree: Tree, where: str = "the tree") -> Plan:
    """Raises TreeError for child indices that form no tree."""
    nodes, leaves = len(tree.feature), len(tree.leaf)
    order: list[int] = []
    first, after = [0] * nodes, [0] * nodes
    stack, steps = [(0 if nodes else ~0, False)], 0
    while stack:
        (node, is_left_done), steps = stack.pop(), steps + 1
        if not -leaves <= node < nodes or steps > 4 * leaves:
            raise TreeError(f"{where} is damaged: its child indices form no tree")
        if node < 0:
            order.append(~node)
        elif is_left_done:
            after[node] = len(order)
        else:
            first[node] = len(order)
            stack += ((tree.right[node], False), (node, True), (tree.left[node], False))
    return Plan(order, list(zip(first, after, strict=True)))
