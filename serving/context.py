"""The context of a request, and what its client is told of a wrong one."""

from collections.abc import Mapping
from typing import Any

from decisioning.catalog import Catalog
from decisioning.domain import Value
from features import context
from serving.errors import invalid


def read_context(catalog: Catalog, sent: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """`features.context.read_context`. Raises ApiError (422) with the feature's name for one of another type."""
    try:
        return context.read_context(catalog, sent)
    except context.ContextError as error:
        field = f"context.{error.name}"
        raise invalid(field, f"The field {field} is wrong: expected {error.expected}.") from None
