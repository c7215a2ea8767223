"""LightGBM's native text model, read without LightGBM: trees as plain arrays, checked before anything trusts them.

The decision rule of a numerical split is LightGBM 4's `Tree::NumericalDecision`. What the scorer can't do exactly is
refused here with the reason: categorical splits, linear trees, several classes, averaged output, more than 64 leaves.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_LEAVES = 64
# LightGBM's kZeroThreshold: the float 1e-35f as a double. Smaller values count as zero.
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

    def goes_left(self, node: int, value: float) -> bool:
        """Which way a value takes at a node, as LightGBM decides it."""
        missing = self.missing[node]
        if math.isnan(value) and missing != MISSING_NAN:
            value = 0.0
        if (missing == MISSING_ZERO and -ZERO <= value <= ZERO) or (missing == MISSING_NAN and math.isnan(value)):
            return self.default_left[node]
        return value <= self.threshold[node]


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
    if fields.get("num_cat", "0") != "0":
        raise TreeError(f"{where} has categorical splits, which the scorer doesn't do: one-hot the column")
    if fields.get("is_linear", "0") != "0":
        raise TreeError(f"{where} is a linear tree, which the scorer doesn't do: train with linear_tree=false")
    if not 1 <= leaves <= MAX_LEAVES:
        raise TreeError(f"{where} has {leaves} leaves; the scorer does 1 to {MAX_LEAVES}: lower num_leaves")
    values = _floats(fields, "leaf_value", where)
    if leaves == 1:
        tree = Tree((), (), (), (), (), (), values)
    else:
        kinds = _ints(fields, "decision_type", where)
        if any(kind & 1 for kind in kinds):
            raise TreeError(f"{where} has categorical splits, which the scorer doesn't do: one-hot the column")
        tree = Tree(
            _ints(fields, "split_feature", where),
            _floats(fields, "threshold", where),
            tuple(bool(kind & 2) for kind in kinds),
            tuple(kind >> 2 & 3 for kind in kinds),
            _ints(fields, "left_child", where),
            _ints(fields, "right_child", where),
            values,
        )
    _check(tree, leaves, columns, where)
    return tree


def _check(tree: Tree, leaves: int, columns: int, where: str) -> None:
    nodes = (tree.feature, tree.threshold, tree.default_left, tree.missing, tree.left, tree.right)
    if len(tree.leaf) != leaves or any(len(column) != leaves - 1 for column in nodes):
        raise TreeError(f"{where} is damaged: its lists don't have the lengths of {leaves} leaves")
    if not all(math.isfinite(value) for value in tree.leaf) or any(math.isnan(value) for value in tree.threshold):
        raise TreeError(f"{where} is damaged: it holds values that are not finite")
    if any(not 0 <= feature < columns for feature in tree.feature) or any(kind == 3 for kind in tree.missing):
        raise TreeError(f"{where} is damaged: it splits on a column or in a way that doesn't exist")
    if sorted(leaf for leaf in leaves_in_order(tree, where)) != list(range(leaves)):
        raise TreeError(f"{where} is damaged: not every leaf is reached exactly once")


def leaves_in_order(tree: Tree, where: str = "the tree") -> Iterator[int]:
    """The leaves from left to right. Raises TreeError for child indices that form no tree."""
    if not tree.feature:
        yield 0
        return
    stack, steps = [0], 0
    while stack:
        node, steps = stack.pop(), steps + 1
        if node >= len(tree.feature) or ~node >= len(tree.leaf) or steps > 2 * len(tree.leaf):
            raise TreeError(f"{where} is damaged: its child indices form no tree")
        if node < 0:
            yield ~node
        else:
            stack += (tree.right[node], tree.left[node])


def left_leaves(tree: Tree) -> Sequence[tuple[int, ...]]:
    """For each inner node, the leaves below its left child."""
    below: dict[int, tuple[int, ...]] = {~leaf: (leaf,) for leaf in range(len(tree.leaf))}

    def collect(node: int) -> tuple[int, ...]:
        if node not in below:
            below[node] = collect(tree.left[node]) + collect(tree.right[node])
        return below[node]

    return tuple(collect(tree.left[node]) for node in range(len(tree.feature)))
