"""Typed fields from YAML nodes: parsers that say what is wrong, and the fields of a mapping, read by name.

A parser turns a node into a value or raises `Wrong`; `Fields` reports that as problems and goes on, so that a person
sees everything at once.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeVar

from decisioning.yaml_nodes import Node, Problems, did_you_mean

T = TypeVar("T")
Parser = Callable[[Node], T]


@dataclass(frozen=True, slots=True)
class Fault:
    node: Node
    message: str
    suggestion: str = ""


class Wrong(Exception):
    """A node, or some nodes within it, are not what they should be."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults


class Broken(Exception):
    """An item had problems, all reported; there is nothing to build."""


def wrong(node: Node, message: str, suggestion: str = "") -> Wrong:
    return Wrong(Fault(node, message, suggestion))


def shown(node: Node) -> str:
    return f'"{node.value}"' if isinstance(node.value, str) and not node.is_null else node.kind


# --- Parsers ----------------------------------------------------------------------------------------------------------


def text(node: Node) -> str:
    if not isinstance(node.value, str) or node.is_null or not node.value.strip():
        raise wrong(node, f"needs text, got {shown(node)}")
    return node.value


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", re.ASCII)


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


NAMING = "Use letters, digits, _ and -, at most 80."


def plain_name(node: Node) -> str:
    """Text that may be a name."""
    found = text(node)
    if not is_name(found):
        raise wrong(node, f"{shown(node)} can't be a name", NAMING)
    return found


def flag(node: Node) -> bool:
    _unquoted(node, "true or false")
    if node.value not in ("true", "false"):
        raise wrong(node, f"needs true or false, got {shown(node)}")
    return node.value == "true"


def _unquoted(node: Node, what: str) -> None:
    if node.quoted:
        raise wrong(node, f"needs {what}, got {shown(node)} in quotes, which is text", "Take the quotes away.")


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)


def number(low: float | None = None, high: float | None = None, above: float | None = None) -> Parser[float]:
    """A finite number within bounds: `low` and `high` are allowed themselves, `above` is not."""

    def parse(node: Node) -> float:
        _unquoted(node, "a number")
        if not isinstance(node.value, str) or not _NUMBER.fullmatch(node.value) or not isfinite(float(node.value)):
            raise wrong(node, f"needs a number, got {shown(node)}")
        return _within(node, float(node.value), low, high, above)

    return parse


def integer(low: int | None = None, high: int | None = None) -> Parser[int]:
    def parse(node: Node) -> int:
        _unquoted(node, "a whole number")
        if not isinstance(node.value, str) or not _INTEGER.fullmatch(node.value):
            raise wrong(node, f"needs a whole number, got {shown(node)}")
        return int(_within(node, int(node.value), low, high, None))

    return parse


def _within(node: Node, value: float, low: float | None, high: float | None, above: float | None) -> float:
    if low is not None and value < low:
        raise wrong(node, f"is {value:g}, needs at least {low:g}")
    if high is not None and value > high:
        raise wrong(node, f"is {value:g}, needs at most {high:g}")
    if above is not None and value <= above:
        raise wrong(node, f"is {value:g}, needs more than {above:g}")
    return value


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def duration(node: Node) -> float:
    """Seconds, from text such as 36h, 14d, 30ms."""
    found = _DURATION.fullmatch(node.value) if isinstance(node.value, str) else None
    if not found:
        raise wrong(node, f"needs a duration, got {shown(node)}", "Write it as 30ms, 90s, 10m, 36h, 14d or 2w.")
    seconds = round(float(found[1]) * _SECONDS[found[2]], 6)
    if not 0 < seconds <= 3_660 * 86_400:
        raise wrong(node, f"is {node.value}, needs more than nothing and at most ten years")
    return seconds


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def moment(node: Node) -> float:
    """Epoch seconds, from a date (its first moment, UTC) or an ISO time (UTC unless it says otherwise)."""
    return _moment(node).timestamp()


def end_of(node: Node) -> float:
    """Like `moment`, but a date means that the whole of that day is included."""
    whole_day = isinstance(node.value, str) and _DATE.fullmatch(node.value)
    return (_moment(node) + timedelta(days=1 if whole_day else 0)).timestamp()


def _moment(node: Node) -> datetime:
    value = node.value
    try:
        if not isinstance(value, str) or not _DATE.match(value):
            raise ValueError
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not 2000 <= at.year <= 2200:
            raise ValueError
    except ValueError:
        raise wrong(node, f"needs a date, got {shown(node)}", "Write it as 2026-12-01 or 2026-12-01T09:00Z.") from None
    return at


_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


def clock(node: Node) -> int:
    """Minutes after midnight, from text such as 22:00."""
    found = _CLOCK.fullmatch(node.value) if isinstance(node.value, str) else None
    if not found:
        raise wrong(node, f"needs a time of day, got {shown(node)}", "Write it as 22:00.")
    return int(found[1]) * 60 + int(found[2])


def one_of(known: Collection[str], what: str) -> Parser[str]:
    """One of some names, such as "offer"s."""
    names = frozenset(known)

    def parse(node: Node) -> str:
        name = text(node)
        if name not in names:
            raise wrong(node, f'unknown {what} "{name}"', did_you_mean(name, names))
        return name

    return parse


def list_of(parse: Parser[T]) -> Parser[tuple[T, ...]]:
    """A list without repetitions; a single item may stand for a list of one."""

    def parse_list(node: Node) -> tuple[T, ...]:
        values: dict[T, None] = {}
        faults: list[Fault] = []
        for item in node.value if isinstance(node.value, list) else [node]:
            try:
                value = parse(item)
            except Wrong as error:
                faults += error.faults
                continue
            if value in values:
                faults.append(Fault(item, f"{shown(item)} is given twice", "Keep one of them."))
            values[value] = None
        if faults:
            raise Wrong(*faults)
        return tuple(values)

    return parse_list


def some_of(parse: Parser[T]) -> Parser[tuple[T, ...]]:
    """A list as in `list_of` that is not empty."""
    parse_list = list_of(parse)

    def parse_some(node: Node) -> tuple[T, ...]:
        values = parse_list(node)
        if not values:
            raise wrong(node, "the list is empty")
        return values

    return parse_some


# --- The fields of a mapping ------------------------------------------------------------------------------------------


class Fields:
    """The fields of one mapping. Unknown keys, keys without a value, and whatever a parser refuses, become problems."""

    def __init__(self, node: Node, problems: Problems, *keys: str, nullable: str = "") -> None:
        """`nullable` is a key that may say `null`: there it means something."""
        self.node, self.problems = node, problems
        self._before = len(problems.found)
        self.is_mapping = isinstance(node.value, dict)
        self.entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
        if not self.is_mapping:
            known = f"Known: {', '.join(keys)}." if len(keys) <= 12 else ""
            problems.add(node, f"needs a mapping, got {shown(node)}", known)
        for key, value in self.entries.items():
            if key not in keys:
                problems.add_at(value.key_place, value.path, f'unknown key "{key}"', did_you_mean(key, keys))
            elif value.is_null and (key != nullable or not value.value):
                hint = "Name one, or say null." if key == nullable else "Give it a value, or take the key away."
                problems.add_at(value.key_place, value.path, f'"{key}" has no value', hint)

    def child(self, key: str) -> Node | None:
        """The node of a key; None where it is absent or says null."""
        node = self.entries.get(key)
        return None if node is None or node.is_null else node

    def optional(self, key: str, parse: Parser[T], default: Any = None) -> Any:
        """The value of a field, or the default where it is absent, null or wrong."""
        node = self.child(key)
        return default if node is None else attempt(parse, node, self.problems, default)

    def required(self, key: str, parse: Parser[T], why: str = "") -> Any:
        """The value of a field. None where it is absent or wrong, and then `finish` stops the item."""
        node = self.child(key)
        if node is None:
            if self.lacks(key):
                self.problems.add(self.node, f'"{key}" is missing', why)
            return None
        return attempt(parse, node, self.problems, None)

    def lacks(self, key: str) -> bool:
        """Whether a mapping has no such key. One without a value has been told of."""
        return self.is_mapping and key not in self.entries

    def wrong(self, key: str, message: str, suggestion: str = "") -> None:
        self.problems.add(self.entries.get(key, self.node), message, suggestion)

    def finish(self) -> None:
        """Call before the record is built. Raises Broken where anything since the start was wrong."""
        if len(self.problems.found) > self._before:
            raise Broken


def attempt(parse: Parser[T], node: Node, problems: Problems, default: Any = None) -> Any:
    """The parsed value, or the default with the faults reported."""
    try:
        return parse(node)
    except Wrong as error:
        for fault in error.faults:
            problems.add(fault.node, fault.message, fault.suggestion)
        return default
