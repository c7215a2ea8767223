"""What a client sends, as the engine takes it: the context read, the user behind a keyed hash, and with an id."""

import sys
from collections.abc import Callable
from typing import Protocol

from decisioning.catalog import FeatureType, Surface
from decisioning.domain import Request
from decisioning.identity import decision_id, user_key
from decisioning.native import native
from features.context import ContextReader
from serving.context import read_context
from serving.deciding.ids import RandomIds
from serving.schemas import DecisionRequest

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""


class Requested(Protocol):
    def __call__(
        self,
        secret: bytes,
        contexts: ContextReader,
        surface: Surface,
        sent: DecisionRequest,
        now: float,
        fresh: Callable[[], str],
        /,
    ) -> tuple[Request, tuple[str, ...]]:
        """The request for a decision, and what was left out of its context, for `degraded`.

        `fresh` gives ids where the surface is not sticky. Raises ApiError (422) for a context with a wrong value.
        """
        ...


def made(
    secret: bytes,
    contexts: ContextReader,
    surface: Surface,
    sent: DecisionRequest,
    now: float,
    fresh: Callable[[], str],
) -> tuple[Request, tuple[str, ...]]:
    """Says what `requested` is."""
    context, ignored = read_context(contexts, sent.context)
    user = user_key(secret, sent.user_id)
    named = decision_id(user, surface.name, now, surface.sticky, fresh)
    return Request(named, user, surface.name, now, context, sent.slots, frozenset(sent.exclude)), ignored


def _by_c() -> Requested | None:
    """The same by the extension, which asks `made` for what is unusual; None where it can't be used."""
    extension = native("serving.deciding._request", VERSION)
    if extension is None or sys.byteorder != "little":  # its hash of a user would be another one
        return None
    kinds = FeatureType.BOOL, FeatureType.INT, FeatureType.FLOAT, FeatureType.ENUM, FeatureType.TEXT
    requested: Requested = extension.Maker(
        made, Request, Surface, DecisionRequest, ContextReader, RandomIds, kinds
    ).make
    return requested


requested: Requested = _by_c() or made
