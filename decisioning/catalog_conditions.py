"""Reads conditions: YAML mappings to condition trees, typed by the features that they name."""

from collections.abc import Mapping
from typing import Any

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test, clauses, negate, version
from decisioning.domain import Value
from decisioning.proofs import Proofs
from decisioning.satisfiable import TooManyAlternatives
from decisioning.words import words
from decisioning.yaml_fields import (
    Broken,
    Parser,
    attempt,
    duration,
    flag,
    integer,
    moment,
    number,
    one_of,
    shown,
    some_of,
    text,
    wrong,
)
from decisioning.yaml_nodes import Node, Problems, did_you_mean

MAX_CLAUSES = 200
COMBINERS = ("all", "any", "none", "audience")
RESERVED = frozenset({*COMBINERS, "not", "history", "now"})
"""Names that no feature may have: they mean something where features are named."""

_NUMERIC = ("not", "min", "max", "above", "below", "missing")
OPERATORS: Mapping[FeatureType, tuple[str, ...]] = {
    FeatureType.BOOL: ("not", "missing"),
    FeatureType.ENUM: ("not", "missing"),
    FeatureType.TEXT: ("not", "version_min", "version_below", "missing"),
    FeatureType.INT: _NUMERIC,
    FeatureType.FLOAT: _NUMERIC,
    FeatureType.TIME: ("within", "older_than", "min", "max", "above", "below", "missing"),
    FeatureType.SET: ("has", "has_any", "lacks", "missing"),
}


def value_of(spec: FeatureSpec) -> Parser[Any]:
    """The parser of one value of a feature (of one member, for a set)."""
    match spec.type:
        case FeatureType.BOOL:
            return flag
        case FeatureType.INT:
            return integer()
        case FeatureType.FLOAT:
            return number()
        case FeatureType.TIME:
            return moment
        case FeatureType.TEXT:
            return text
        case _:
            return one_of(spec.values, f"{spec.name} value")


def whole_value_of(spec: FeatureSpec) -> Parser[Value]:
    """The parser of a feature's whole value, as in `default:` or in a test's `given:`."""
    if spec.type is not FeatureType.SET:
        return value_of(spec)
    members = some_of(value_of(spec))
    return lambda node: frozenset() if node.value == [] else frozenset(members(node))


class ConditionReader:
    """Reads conditions that may name features and audiences. An audience is read when it is first needed."""

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        audiences: Mapping[str, Node],
        problems: Problems,
        known: frozenset[str],
    ) -> None:
        """`known` are the declared names of features, with those that could not be read."""
        self.features, self.problems, self.known = features, problems, known
        self.proofs = Proofs(features)
        self._nodes = audiences
        self._read: dict[str, Condition | None] = {}
        self._path: list[str] = []
        self._uses: dict[str, set[str]] = {}
        """The audiences that each audience names; under "", those that anything else does."""

    def idle(self) -> tuple[str, ...]:
        """The audiences that nothing uses, once all has been read; not even by way of another that is used."""
        used, pending = set[str](), list(self._uses.get("", ()))
        while pending:
            name = pending.pop()
            if name not in used:
                used.add(name)
                pending += self._uses.get(name, ())
        return tuple(name for name in self._nodes if name not in used)

    def audience(self, name: str) -> Condition:
        """A named audience's condition. Raises Broken where it, or one that it needs, is wrong."""
        if name not in self._read:
            self._read[name] = None  # until it is read; so a broken one is reported once
            self._path.append(name)
            try:
                self._read[name] = self.condition(self._nodes[name])
            finally:
                self._path.pop()
        condition = self._read[name]
        if condition is None:
            raise Broken
        return condition

    def condition(self, node: Node) -> Condition:
        """A condition: all that a mapping says, and some user can meet. Raises Broken after reporting what is wrong."""
        if not isinstance(node.value, dict) or not node.value:
            self.problems.add(node, f"needs a mapping of conditions, got {shown(node)}", "Such as {tier: free}.")
            raise Broken
        parts: list[Condition] = []
        broken = False
        for key, value in node.value.items():
            try:
                parts.append(self._part(key, value))
            except Broken:
                broken = True
        if broken:
            raise Broken
        whole = parts[0] if len(parts) == 1 else AllOf(tuple(parts), node.place)
        count = clauses(whole)
        if count > MAX_CLAUSES:  # audiences of audiences could make one of any size
            hint = "Make a part of it a derived feature."
            self.problems.add(node, f"has {count} clauses with its audiences, more than {MAX_CLAUSES}", hint)
            raise Broken
        if list(node.value) != ["audience"]:  # audiences are proved where they stand
            self._prove(whole, node)
        return whole

    def _prove(
        self, condition: Condition, node: Node, contradiction: str = "contradicts itself: nobody can meet it"
    ) -> None:
        """Some user has to be able to meet a condition, were it only an alternative of another. Raises Broken."""
        try:
            if self.proofs.satisfiable(condition):
                return
            self.problems.add(node, contradiction)
        except TooManyAlternatives:
            hint = "Name the common parts as audiences, or split it."
            self.problems.add(node, "has too many alternatives to check", hint)
        raise Broken

    def _part(self, key: str, node: Node) -> Condition:
        if key == "audience":
            return self._audiences(node)
        if key in COMBINERS:
            return self._combined(key, node)
        spec = self.features.get(key)
        if spec:
            return self._test(spec, node)
        if key not in self.known:
            hint = did_you_mean(key, self.known | {*COMBINERS})
            self.problems.add_at(node.key_place, node.path, f'unknown feature "{key}"', hint)
        raise Broken

    def _audiences(self, node: Node) -> Condition:
        names = attempt(some_of(one_of(self._nodes, "audience")), node, self.problems)
        if names is None:
            raise Broken
        self._uses.setdefault(self._path[-1] if self._path else "", set()).update(names)
        for name in names:
            if name in self._path:
                circle = " → ".join([*self._path[self._path.index(name) :], name])
                self.problems.add(node, f"audiences go in a circle: {circle}", "Take one of them away.")
                raise Broken
        found = tuple(self.audience(name) for name in names)
        return found[0] if len(found) == 1 else AnyOf(found, node.place)

    def _combined(self, key: str, node: Node) -> Condition:
        if not isinstance(node.value, list) or not node.value:
            self.problems.add(node, f'"{key}" needs a list of conditions, got {shown(node)}', "Such as [{tier: free}].")
            raise Broken
        children: list[Condition] = []
        for item in node.value:
            try:
                children.append(self.condition(item))
            except Broken:
                continue
        if len(children) < len(node.value):
            raise Broken
        if key == "none":
            return negate(AnyOf(tuple(children), node.place))
        return AllOf(tuple(children), node.place) if key == "all" else AnyOf(tuple(children), node.place)

    def _test(self, spec: FeatureSpec, node: Node) -> Condition:
        if not isinstance(node.value, dict):
            if spec.type is FeatureType.SET:
                self.problems.add(node, f"{spec.name} is a set", "Write {has: x}, {has_any: [x, y]} or {lacks: x}.")
                raise Broken
            return self._one(spec, Op.IS, some_of(value_of(spec)), node)
        tests = [self._operator(spec, key, value) for key, value in node.value.items()]
        if not tests:
            self.problems.add(node, "says nothing", f"Known: {', '.join(OPERATORS[spec.type])}.")
            raise Broken
        known = [test for test in tests if test]
        if len(known) < len(tests):
            raise Broken
        if len(known) == 1:
            return known[0]
        together = AllOf(tuple(known), node.place)
        self._prove(together, node, f"no value can do: {words(together)}")
        return together

    def _operator(self, spec: FeatureSpec, key: str, node: Node) -> Condition | None:
        """One operator's test; None after reporting what is wrong with it."""
        allowed = OPERATORS[spec.type]
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            self.problems.add_at(node.key_place, node.path, f'{spec.type} features have no operator "{key}"', hint)
            return None
        try:
            if key == "missing":
                missing = self._one(spec, Op.MISSING, flag, node)
                return Test(spec.name, Op.MISSING if missing.value else Op.PRESENT, None, node.place)
            return self._one(spec, Op(key), _operand(spec, key), node)
        except Broken:
            return None

    def _one(self, spec: FeatureSpec, op: Op, parse: Parser[Any], node: Node) -> Test:
        value = attempt(parse, node, self.problems)
        if value is None:
            raise Broken
        return Test(spec.name, op, value, node.place)


def _operand(spec: FeatureSpec, key: str) -> Parser[Any]:
    if key in ("within", "older_than"):
        return duration
    if key in ("version_min", "version_below"):
        return _version
    one = value_of(spec)
    return some_of(one) if key in ("not", "has", "has_any", "lacks") else one


def _version(node: Node) -> str:
    if version(text(node)) is None:
        raise wrong(node, f"needs a version, got {shown(node)}", "Write it as 8.9.12.")
    return text(node)
