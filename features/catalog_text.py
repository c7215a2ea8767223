"""Feature declarations as the `features:` section of a catalog."""

import re
from collections.abc import Iterable

from decisioning.catalog import FeatureSpec
from decisioning.domain import Value

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def catalog_features_yaml(specs: Iterable[FeatureSpec]) -> str:
    """The text of `features.yaml`, one line per feature, in the order given."""
    lines = [f"  {quoted(spec.name)}: {{{', '.join(_fields(spec))}}}" for spec in specs]
    return "features:\n" + "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A YAML scalar that reads back as this text: bare where it is a plain word, else in double quotes."""
    if PLAIN.match(text) and text != "null":
        return text
    escaped = "".join(c if c.isprintable() and c not in '"\\' else _escape(c) for c in text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    return "\\" + character if character in '"\\' else f"\\U{ord(character):08x}"


def duration(seconds: float) -> str:
    """The catalog's way to write a duration: the largest unit that divides it."""
    whole = round(seconds)
    size, unit = next((size, unit) for size, unit in UNITS if whole % size == 0)
    return f"{whole // size}{unit}"


def _fields(spec: FeatureSpec) -> Iterable[str]:
    yield f"type: {spec.type}"
    if spec.values:
        yield f"values: [{', '.join(map(quoted, spec.values))}]"
    if spec.unit:
        yield f"unit: {quoted(spec.unit)}"
    if spec.default is not None:
        yield f"default: {_scalar(spec.default)}"
    if spec.max_age is not None:
        yield f"max_age: {duration(spec.max_age)}"
    if spec.blocks_if_missing:
        yield "if_missing: block"
    if spec.counts:
        yield f"counts: {quoted(spec.counts)}"
    if spec.from_context:
        yield "from: context"


def _scalar(value: Value) -> str:
    match value:
        case bool():
            return str(value).lower()
        case frozenset():
            return f"[{', '.join(map(quoted, sorted(value)))}]"
        case str():
            return quoted(value)
    return str(value)
