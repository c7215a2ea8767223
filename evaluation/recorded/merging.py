"""What was counted of disjoint parts, put together."""

from collections.abc import Mapping


def merged(one: Mapping, other: Mapping) -> dict:
    """Both mappings; what stands under a key of both is added with `+`."""
    found = dict(one)
    for key, part in other.items():
        found[key] = found[key] + part if key in found else part
    return found
