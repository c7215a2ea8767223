"""From what was read and sent to what is known: types, freshness, defaults, and the names that the catalog declares."""

from decisioning.catalog import Catalog, FeatureType
from decisioning.domain import Facts, Request, Value

_TYPES: dict[FeatureType, tuple[type, ...]] = {
    FeatureType.BOOL: (bool,),
    FeatureType.INT: (int,),
    FeatureType.FLOAT: (float, int),
    FeatureType.ENUM: (str,),
    FeatureType.SET: (frozenset,),
    FeatureType.TIME: (float, int),
    FeatureType.TEXT: (str,),
}


def known_values(catalog: Catalog, request: Request, facts: Facts) -> dict[str, Value]:
    """The values that conditions and models may read, by feature name; a missing one is absent.

    A value of another type than declared, or a snapshot value older than its `max_age`, is missing; a missing value
    takes its default. Names that the catalog does not declare are left out: a client can't slip one past the rules.
    """
    age = 0.0 if facts.as_of is None else request.now - facts.as_of
    values: dict[str, Value] = {}
    for name, spec in catalog.features.items():
        value = (request.context if spec.from_context else facts.features).get(name)
        stale = spec.max_age is not None and not spec.from_context and age > spec.max_age
        if stale or not of_type(value, spec.type):
            value = spec.default
        if value is not None:
            values[name] = value
    return values


def of_type(value: Value, declared: FeatureType) -> bool:
    """Whether a value is one of the declared type: a bool is no number, and NaN is nothing at all."""
    kinds = _TYPES[declared]
    if type(value) in kinds:
        return value == value
    return False
