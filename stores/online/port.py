"""The port of the online store: what is known about one user, read in one round trip, and events applied once."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from decisioning.domain import Event, Facts, Value
from features.schema import Schema
from stores.online.budgets import Budgets

UNKNOWN_USER = "features:unknown_user"
UNPUBLISHED = "features:unpublished"
OTHER_SCHEMA = "features:schema"
CORRUPT = "features:corrupt"
CORRUPT_HISTORY = "history:corrupt"
CORRUPT_BUDGET = "budgets:corrupt"
CORRUPT_KILLED = "killed:corrupt"

HISTORY_LIMIT = 200
"""How many of a user's events are kept: the newest ones. Half of them may be anything but impressions, clicks and
decisions, however many of these come: a dismissal outlives any number of them."""

PASSING = frozenset({"impression", "decision", "click"})
"""The types of events that make way for the others."""

HISTORY_SECONDS = 90 * 86_400
"""A history that saw no event for so long is forgotten; an event so much older than the newest is too late to count."""


class StoreDown(Exception):
    """The store can't be reached, hangs, refuses or answers nonsense. Its users go on with less, and say so."""


class PartDown(StoreDown):
    """A part of the store is down, and this needs it: one node of a cluster. Other users may be well."""


class TooSlow(StoreDown):
    """The store did not answer within the time that the caller had. It may be well, and so may the next answer."""


class ReadOnly(StoreDown):
    """The store is well but takes no writes: it is full, a replica after a failover, or these writes are forbidden."""


class Damaged(StoreDown):
    """A key holds what Segue never wrote there. Whom it concerns gets by with less; the store itself is well."""


def unread(part: str) -> str:
    """What `degraded` says where a part of the facts could not be read."""
    return f"{part}:unread"


class OnlineStore(Budgets, Protocol):
    """Every method raises StoreDown, and nothing else, for whatever is wrong with the store or the way to it.

    None takes longer than `timeout`, in seconds, where it is given one, and then raises TooSlow; without it, no longer
    than the store's own.
    """

    def read(
        self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "", *, timeout: float | None = None
    ) -> Awaitable[Facts]:
        """Feature values, recent history, what is out of `budgets` (spent or on lease), and the offers switched off.

        `user` is a user key. A user without features, or with those of another schema, is no failure: the values are
        missing and `degraded` says why (`features:unknown_user`, `features:schema`, `features:corrupt`, or
        `features:unpublished` when the store holds no snapshot at all). A damaged history counts as unread. A budget
        that nobody spent reads 0; only the budgets asked for are read. What the decision `own` itself showed is left
        out of the history.

        Values fresher than the snapshot's win, and `fresh` names them (`stores.online.fresh`). Where only a part of
        the store is down, what it holds is missing, and both `unread` and `degraded` (`history:unread`) say so.
        """
        ...

    async def read_again(
        self, user: str, schema: Schema, budgets: Sequence[str], decision_id: str, *, timeout: float | None = None
    ) -> tuple[Facts, bytes | None]:
        """`read` for a decision that may have been made before, without what it showed; and the answer remembered.

        An answer that can't be told, as its key is damaged or its part of the store is down, is None.
        """
        ...

    async def apply(self, event: Event, budgets: Sequence[str] = (), *, timeout: float | None = None) -> bool:
        """Add an event to its user's history and count it towards each of `budgets`: at most once per `event_id`.

        It confirms the unit that its decision holds on lease, or spends one. False if it was applied before. The order
        in which events arrive never matters. After a StoreDown, repeat it: whatever had been done is not done again,
        and what had not been is.
        """
        ...

    async def refresh(self, user: str, values: Mapping[str, Value], at: float) -> int:
        """Take values that describe the moment `at` (epoch seconds), each unless a later one is known of its feature.

        Of two for one moment the first stays. They win over a snapshot of an earlier moment, and are forgotten a week
        after the last came. Returns how many were taken.
        """
        ...

    async def recall(self, user: str, decision_id: str, *, timeout: float | None = None) -> bytes | None:
        """The answer that was remembered for a decision, as long as it lasts."""
        ...

    async def remember(
        self,
        user: str,
        decision_id: str,
        answer: bytes,
        lasts: float,
        instead_of: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes | None:
        """Remember an answer for so many seconds: None.

        Where another answer than `instead_of` is remembered by now, nothing changes and that one is returned.
        """
        ...

    async def kill(self, offer: str) -> None:
        """Switch an offer off everywhere, at once and without a release."""
        ...

    async def revive(self, offer: str) -> None:
        """Undo `kill`."""
        ...

    async def close(self) -> None: ...
