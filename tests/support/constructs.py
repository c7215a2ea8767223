"""Which constructs of the catalog's language a catalog uses: keys by what they stand in, operators, and choices."""

from collections.abc import Iterator, Mapping

from decisioning.catalog import Factor, FeatureType
from decisioning.catalog_conditions import COMBINERS, OPERATORS
from decisioning.catalog_experiments import SETTINGS
from decisioning.catalog_keys import KEYS, NAMED, SECTIONS, SINGLE
from decisioning.domain import DECISION, EventType
from decisioning.rules import CapBy, Same
from decisioning.yaml_nodes import Node, Problems, read_yaml

CONDITIONS = {
    ("offers", "eligible"), ("guards", "require"), ("guards", "block_if"), ("invariants", "when"),
    ("context_weights", "when"), ("experiments", "audience"),
}  # fmt: skip
SCOPES = {
    (kind, key) for kind in ("guards", "suppress", "caps", "levers", "context_weights") for key in ("only", "except")
}
CHOICES = {
    ("features", "type"): tuple(FeatureType),
    ("features", "from"): ("context",),
    ("features", "if_missing"): ("block",),
    ("surfaces", "allow_nothing"): ("true",),
    ("surfaces", "diversity"): ("group",),
    ("suppress", "same"): tuple(Same),
    ("caps", "by"): tuple(CapBy),
    ("caps", "counts"): (DECISION, "click"),
    ("budgets", "pace"): ("even",),
    ("budgets", "hard"): ("true", "false"),
    ("quiet_hours", "timezone"): ("user",),
    ("holdouts", "show"): ("best_single_offer",),
    ("ablations", "factors"): tuple(Factor),
    ("arbitration", "order"): ("priority", "score"),
    ("arbitration", "tie_break"): ("hash",),
}
EVERY: frozenset[str] = frozenset(
    {
        *SECTIONS,
        *(f"{kind}: {key}" for kind, keys in KEYS.items() for key in keys),
        *(f"condition: {name}" for name in COMBINERS),
        *(f"test: {name}" for names in OPERATORS.values() for name in names),
        *("test: is", "test: any of"),
        *(f"{kind}: {key}: {choice}" for (kind, key), choices in CHOICES.items() for choice in choices),
        *(f"arms set {section} {what}" for section, what in SETTINGS),
        "suppress: after: one event",
        "suppress: after: several events",
        *(f"history: {event}" for event in (*EventType, DECISION)),
    }
)
"""Every construct, by a name of its own."""


def constructs(files: Mapping[str, bytes]) -> frozenset[str]:
    """The constructs that some files use."""
    roots = [root for name, content in files.items() if (root := read_yaml(name, content, Problems()))]
    sections = [(section, node) for root in roots for section, node in root.value.items()]
    return frozenset(found for section, node in sections for found in _in_section(section, node))


def _in_section(section: str, node: Node) -> Iterator[str]:
    yield section
    if section == "audiences":
        for condition in node.value.values():
            yield from _in_condition(condition)
    elif section in NAMED:
        for item in node.value.values():
            yield from _in_item(section, item)
    elif section == "tests":
        for item in node.value:
            yield from _in_item(section, item)
    elif section in SINGLE and isinstance(node.value, dict):
        yield from _in_item(section, node)


def _in_item(kind: str, item: Node) -> Iterator[str]:
    for key, value in item.value.items():
        if key in KEYS[kind]:
            yield f"{kind}: {key}"
        for one in value.value if isinstance(value.value, list) else [value]:
            if isinstance(one.value, str):
                yield f"{kind}: {key}: {one.value}"
        if (kind, key) in CONDITIONS and isinstance(value.value, dict):
            yield from _in_condition(value)
        elif (kind, key) in SCOPES or (kind, key) == ("invariants", "never"):
            yield from (f"scope: {name}" for name in value.value)
        elif f"{kind}.{key}" in KEYS and key != "arms":
            yield from _in_item(f"{kind}.{key}", value)
        elif key == "arms":
            for arm in value.value.values():
                yield from _in_item("experiments.arms", arm)
        elif key == "set":
            for path in value.value:
                yield f"arms set {path.split('.')[0]} {'.'.join(path.split('.')[2:])}"
        elif (kind, key) == ("suppress", "after"):
            yield f"suppress: after: {'several events' if isinstance(value.value, dict) else 'one event'}"
        elif key == "history":
            yield from (f"history: {event}" for past in value.value for event in past.value if event != "ago")


def _in_condition(condition: Node) -> Iterator[str]:
    for key, value in condition.value.items():
        if key in COMBINERS:
            yield f"condition: {key}"
            for child in value.value if isinstance(value.value, list) and key != "audience" else []:
                yield from _in_condition(child)
        elif isinstance(value.value, dict):
            yield from (f"test: {operator}" for operator in value.value)
        else:
            yield f"test: {'any of' if isinstance(value.value, list) else 'is'}"
