"""The same conditions in other hands: CEL, ZEN, and a plain loop over dictionaries.

Each peer gets what suits it best: all conditions compiled once, as one expression where it has such; the values that
conditions read as plain dictionaries, converted before the clock starts; versions as numbers, as none compares them.
A missing value fails a test in both polarities, so every test asks first whether its value is there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version as installed
from typing import Any

from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test, version
from decisioning.domain import Value

User = dict[str, Any]
Judge = Callable[[User], Sequence[bool]]
"""From a user to whether each condition holds."""


@dataclass(frozen=True)
class Peer:
    name: str
    package: str | None
    compile: Callable[[Sequence[Condition]], Judge]

    @property
    def version(self) -> str:
        return installed(self.package) if self.package else "of this benchmark"


def user_of(values: Mapping[str, Value], read: frozenset[str]) -> User:
    """The values that conditions read, as JSON would bring them: sets as lists; and versions as numbers."""
    found: User = {}
    for name in read & values.keys():
        value = values[name]
        if name == "app_version":
            found[name] = _number(value)
        else:
            found[name] = sorted(value) if isinstance(value, frozenset) else value
    return found


def _number(text: Value) -> int:
    """8.4.2 → 80402, for versions of at most three parts below 100."""
    major, minor, patch = (*(version(text) or ()), 0, 0, 0)[:3]
    return major * 10_000 + minor * 100 + patch


def _wanted(test: Test) -> Any:
    return _number(test.value) if test.op in (Op.VERSION_MIN, Op.VERSION_BELOW) else test.value


_SIGNS = {Op.MIN: ">=", Op.MAX: "<=", Op.ABOVE: ">", Op.BELOW: "<", Op.VERSION_MIN: ">=", Op.VERSION_BELOW: "<"}


# --- A plain loop over dictionaries -----------------------------------------------------------------------------------


def plain(conditions: Sequence[Condition]) -> Judge:
    """What a service without a rule engine does: rules as nested dictionaries, walked for each user."""
    rules = [_as_dict(condition) for condition in conditions]
    return lambda user: [_walk(rule, user) for rule in rules]


def _as_dict(condition: Condition) -> dict[str, Any]:
    if isinstance(condition, Test):
        return {"feature": condition.feature, "op": str(condition.op), "value": _wanted(condition)}
    return {"all" if isinstance(condition, AllOf) else "any": [_as_dict(child) for child in condition.children]}


def _walk(rule: dict[str, Any], user: User) -> bool:
    if "all" in rule:
        return all(_walk(child, user) for child in rule["all"])
    if "any" in rule:
        return any(_walk(child, user) for child in rule["any"])
    return _PLAIN[rule["op"]](user.get(rule["feature"]), rule["value"])


_PLAIN: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda found, wanted: found in wanted,
    "not": lambda found, wanted: found is not None and found not in wanted,
    "min": lambda found, wanted: found is not None and found >= wanted,
    "max": lambda found, wanted: found is not None and found <= wanted,
    "above": lambda found, wanted: found is not None and found > wanted,
    "below": lambda found, wanted: found is not None and found < wanted,
    "has": lambda found, wanted: found is not None and all(one in found for one in wanted),
    "has_any": lambda found, wanted: found is not None and any(one in found for one in wanted),
    "lacks": lambda found, wanted: found is not None and not any(one in found for one in wanted),
    "version_min": lambda found, wanted: found is not None and found >= wanted,
    "version_below": lambda found, wanted: found is not None and found < wanted,
    "missing": lambda found, _: found is None,
    "present": lambda found, _: found is not None,
}


# --- CEL --------------------------------------------------------------------------------------------------------------


def cel(conditions: Sequence[Condition]) -> Judge:
    """One CEL program that gives a list of answers."""
    cel = import_module("cel_expr_python.cel")
    environment = cel.NewEnv(variables={"u": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
    program = environment.compile(f"[{', '.join(map(_cel, conditions))}]")
    return lambda user: program.eval(data={"u": user}).plain_value()


def _cel(condition: Condition) -> str:
    if isinstance(condition, AllOf | AnyOf):
        return _joined(condition, map(_cel, condition.children), "&&", "||")
    name = f"u.{condition.feature}"
    return (
        f"(has({name}) && {_claim(condition, name, 'in', '!')})" if condition.op is not Op.MISSING else f"!has({name})"
    )


# --- ZEN --------------------------------------------------------------------------------------------------------------


def zen(conditions: Sequence[Condition]) -> Judge:
    """One ZEN expression that gives a list of answers."""
    program = import_module("zen").compile_expression(f"[{', '.join(map(_zen, conditions))}]")
    return lambda user: program.evaluate(user)


def _zen(condition: Condition) -> str:
    if isinstance(condition, AllOf | AnyOf):
        return _joined(condition, map(_zen, condition.children), "and", "or")
    name = condition.feature
    if condition.op is Op.MISSING:
        return f"({name} == null)"
    if condition.op in (Op.HAS, Op.HAS_ANY, Op.LACKS):
        has = [f'some({name}, # == "{one}")' for one in condition.value]
        return f"({name} != null and {_sets(condition.op, has, 'and', 'or', 'not ')})"
    return f"({name} != null and {_claim(condition, name, 'in', 'not ')})"


# --- Both ------------------------------------------------------------------------------------------------------------


def _joined(condition: AllOf | AnyOf, parts: Any, every: str, some: str) -> str:
    word = every if isinstance(condition, AllOf) else some
    return f"({f' {word} '.join(parts)})" if condition.children else str(isinstance(condition, AllOf)).lower()


def _claim(test: Test, name: str, among: str, negation: str) -> str:
    match test.op:
        case Op.PRESENT:
            return "true"
        case Op.IS:
            return f"{name} {among} {_literal(test.value)}"
        case Op.IS_NOT:
            return f"{negation}({name} {among} {_literal(test.value)})"
        case Op.HAS | Op.HAS_ANY | Op.LACKS:
            return _sets(test.op, [f"({_literal(one)} {among} {name})" for one in test.value], "&&", "||", negation)
        case Op.WITHIN | Op.OLDER_THAN:
            raise ValueError("the reference workload has no conditions on times")
    return f"{name} {_SIGNS[test.op]} {_literal(_wanted(test))}"


def _sets(op: Op, has: Sequence[str], every: str, some: str, negation: str) -> str:
    text = f" {every if op is Op.HAS else some} ".join(has)
    return f"{negation}({text})" if op is Op.LACKS else f"({text})"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


PEERS = (
    Peer("plain_loop", None, plain),
    Peer("cel_expr_python", "cel-expr-python", cel),
    Peer("zen_engine", "zen-engine", zen),
)
