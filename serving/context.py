"""The context of a request, and what its client is told of a wrong one."""

from collections.abc import Mapping
from typing import Any

from decisioning.domain import Value
from features.context import ContextError, ContextReader
from serving.errors import ApiError, invalid


def read_context(reader: ContextReader, sent: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """`ContextReader.read`. Raises ApiError (422) with the feature's name for one of another type."""
    try:
        return reader.read(sent)
    except ContextError as error:
        raise wrong(error) from None


def wrong(error: ContextError) -> ApiError:
    """What the client is told of it."""
    field = f"context.{error.name}"
    return invalid(field, f"The field {field} is wrong: expected {error.expected}.")
