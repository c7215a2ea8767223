"""From what was read and sent to what is known: freshness, defaults, and the names that the catalog declares."""

from collections.abc import Mapping

from decisioning.catalog import Catalog
from decisioning.domain import Facts, Request, Value


def known_values(catalog: Catalog, request: Request, facts: Facts) -> dict[str, Value]:
    """The values that conditions and models may read, by feature name; a missing one is absent.

    A snapshot value older than its `max_age` is missing; a missing value takes its default. Names that the catalog
    does not declare are left out, so that a client can't slip one past the rules.
    """
    age = 0.0 if facts.as_of is None else request.now - facts.as_of
    values: dict[str, Value] = {}
    for name, spec in catalog.features.items():
        value = _found(request.context if spec.from_context else facts.features, name)
        if not spec.from_context and spec.max_age is not None and age > spec.max_age:
            value = None
        if value is None:
            value = spec.default
        if value is not None:
            values[name] = value
    return values


def _found(values: Mapping[str, Value], name: str) -> Value:
    """A value by name; a NaN that slipped in is missing, as everywhere."""
    value = values.get(name)
    return None if isinstance(value, float) and value != value else value
