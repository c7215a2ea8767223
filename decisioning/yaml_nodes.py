"""YAML as plain nodes that know where they stand, and the problems that a person has to mend.

Nodes are built from the parser's events rather than its objects, so that nothing is guessed (`NO` stays text),
nothing is built that the catalog's language lacks (aliases, tags, second documents), and depth is bounded on the way.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

from decisioning.domain import NOWHERE, Place
from decisioning.errors import UserError

MAX_BYTES = 2_000_000
MAX_DEPTH = 20
MOST_TOLD = 200
"""How many characters of a line or a path are told; thrice as many of a message."""
MAX_PROBLEMS = 200
"""Reading stops at so many: nobody mends more at once, and finding the nearest right names takes its time."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is there: ten times as fast


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `value` is text, a list of nodes, or nodes by key."""

    place: Place
    path: str
    """Where it is in the catalog, such as `offers.premium_annual.eligible.country`."""
    value: "str | list[Node] | dict[str, Node]"
    quoted: bool = False
    key_place: Place = NOWHERE
    """Where the key stands that this node is the value of."""

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.value in ("", "null", "~")

    @property
    def kind(self) -> str:
        if self.is_null:
            return "nothing"
        return {str: "text", list: "a list", dict: "a mapping"}[type(self.value)]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a catalog, in words, and where."""

    place: Place
    path: str
    message: str
    suggestion: str = ""
    """What to do about it, as a sentence."""
    line: str = ""
    """The text of the line."""

    def to_json(self) -> dict[str, str | int]:
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "path": self.path,
            "message": self.message,
            "suggestion": self.suggestion,
        }

    def __str__(self) -> str:
        where = f"{self.place}:{self.place.column}: " if self.place.line else ""
        path = f"{self.path}: " if self.path else ""
        told = visible(f"{where}{path}{self.message}." + (f" {self.suggestion}" if self.suggestion else ""))
        if not self.line.strip() or self.place.column > MOST_TOLD:
            return told
        line = "".join(
            one if one.isprintable() else " " if one == "\t" else "\N{REPLACEMENT CHARACTER}" for one in self.line
        )
        return f"{told}\n    {line}\n    {' ' * (self.place.column - 1)}^"


def visible(text: str) -> str:
    """Text with what can't be seen written as Python would: names may hold line ends, or what commands a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class CatalogError(UserError):
    """All that is wrong with a catalog, at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        more = ", and maybe more" if len(problems) >= MAX_PROBLEMS else ""
        super().__init__("\n".join([f"The catalog has {count}{more}:", *map(str, problems)]))


@dataclass(slots=True)
class Problems:
    """Collects problems while a catalog is read, with the lines that they stand on."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    found: list[Problem] = field(default_factory=list)
    limit: float = MAX_PROBLEMS

    def add(self, node: Node, message: str, suggestion: str = "") -> None:
        self.add_at(node.place, node.path, message, suggestion)

    def add_at(self, place: Place, path: str, message: str, suggestion: str = "") -> None:
        lines = self.lines.get(place.file, [])
        line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
        self.found.append(Problem(place, _cut(path), _cut(message, 3 * MOST_TOLD), suggestion, line[:MOST_TOLD]))
        if len(self.found) >= self.limit:
            self.raise_any()

    def raise_any(self) -> None:
        if self.found:
            raise CatalogError(self.in_order())

    def in_order(self) -> tuple[Problem, ...]:
        """What was found, by place, each once."""
        return tuple(sorted(set(self.found), key=lambda p: (p.place.file, p.place.line, p.place.column, p.message)))


def _cut(text: str, most: int = MOST_TOLD) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def did_you_mean(wrong: str, right: "Mapping[str, Any] | set[str] | frozenset[str] | tuple[str, ...]") -> str:
    """The nearest right name as a question; all of them where they are few and none is near."""
    near = get_close_matches(wrong, sorted(right), n=1, cutoff=0.65)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Known: {', '.join(sorted(right))}." if 0 < len(right) <= 12 else ""


def read_yaml(file: str, content: bytes, problems: Problems) -> Node | None:
    """The file's root node; None for an empty file, or for one that can't be read, which adds a problem."""
    text = _text(file, content, problems)
    if text is None:
        return None
    reader = _Reader(file, problems, yaml.parse(text, Loader=_Loader))
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1)
        problems.add_at(place, "", f"this is not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        problems.add_at(_end_of(file, before), "", f"this is not YAML: {error.reason}")
    except _Refused as refused:
        problems.add_at(refused.place, refused.path, refused.message, refused.suggestion)
    return None


def _text(file: str, content: bytes, problems: Problems) -> str | None:
    if len(content) > MAX_BYTES:
        message = f"the file has {len(content):,} bytes, more than the {MAX_BYTES:,} that are allowed"
        problems.add_at(Place(file, 1), "", message, "Split it.")
        return None
    content = content.removeprefix(BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        problems.lines[file] = _LINE_END.split(content.decode(errors="replace"))
        before = content[: error.start].decode()
        problems.add_at(_end_of(file, before), "", "the file is not UTF-8", "Save it as UTF-8.")
        return None
    problems.lines[file] = _LINE_END.split(text)
    if "\t" in text:
        problems.add_at(_end_of(file, text[: text.index("\t")]), "", "there is a tab", "Use spaces.")
        return None
    return text


_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What ends a line for YAML, and so in the marks of its parser."""


def _end_of(file: str, text: str) -> Place:
    lines = _LINE_END.split(text)
    return Place(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Refused(Exception):
    """YAML that the catalog's language does not have."""

    place: Place
    path: str
    message: str
    suggestion: str = ""


def _refuse_magic(event: Any, place: Place, path: str) -> None:
    """A key or a value says what it is where it stands."""
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        raise _Refused(place, path, "anchors and aliases are not part of the language", "Write it out.")
    if event.tag:
        raise _Refused(place, path, f"tags such as {event.tag} are not part of the language", "Take it away.")


@dataclass(slots=True)
class _Reader:
    file: str
    problems: Problems
    events: Iterator[Any]

    def document(self) -> Node | None:
        next(self.events)  # the stream's start
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        root = self.node(next(self.events), "", 0, NOWHERE)
        next(self.events)  # the document's end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Refused(self.place(after), "", "a second document starts here", 'Take the "---" away.')
        return root

    def place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def node(self, event: Any, path: str, depth: int, key_place: Place) -> Node:
        place = self.place(event)
        _refuse_magic(event, place, path)
        if depth > MAX_DEPTH:
            raise _Refused(
                place, path, f"this is nested more than {MAX_DEPTH} deep", "Name a part of it as an audience."
            )
        if isinstance(event, yaml.ScalarEvent):
            return Node(place, path, event.value, not event.implicit[0], key_place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(place, path, self.items(path, depth), key_place=key_place)
        return Node(place, path, self.entries(path, depth), key_place=key_place)

    def items(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, f"{path}[{len(items)}]", depth + 1, NOWHERE))
        return items

    def entries(self, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            place = self.place(event)
            _refuse_magic(event, place, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused(place, path, "a key has to be a name")
            key = event.value
            value = self.node(next(self.events), f"{path}.{key}" if path else key, depth + 1, place)
            if key in entries:
                first = entries[key].key_place
                self.problems.add_at(
                    place, value.path, f'"{key}" is given twice, first at {first}', "Keep one of them."
                )
            else:
                entries[key] = value
        return entries
