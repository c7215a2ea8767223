"""What publishing needs: a source of rows, and a shelf on which versions of the features stand side by side."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np

from decisioning.errors import UserError
from stores.online.layout import Pointer, Version, field_of

Row = tuple[str, bytes]
"""A user key and a packed vector."""

BLOCK_ROWS = 20_000
"""Plain rows in one block."""

ALREADY_PUBLISHING = (
    "Another process is publishing features to this store: wait until it ends, then try again "
    "(one that was killed is forgotten after a quarter of a minute)."
)


class Refused(UserError):
    """What was written can't be used. Once it has been dropped, the next attempt starts anew."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some users of a snapshot: `fields` by `layout.field_of`, `vectors` as uint8 of shape (users, bytes)."""

    fields: list[bytes]
    vectors: np.ndarray


@runtime_checkable
class Source(Protocol):
    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """The packed rows from `start` up to `stop`, in an order that is always the same."""
        ...


class Rows:
    """Rows from any iterable as a source, for tests and small things: they stay in memory."""

    def __init__(self, rows: Iterable[Row]):
        self._coming = iter(rows)
        self._seen: list[Row] = []

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        while rows := self._rows(start, start + BLOCK_ROWS if stop is None else min(start + BLOCK_ROWS, stop)):
            start += len(rows)
            vectors = np.frombuffer(b"".join(packed for _, packed in rows), np.uint8)
            yield Block([field_of(user) for user, _ in rows], vectors.reshape(len(rows), -1))

    def _rows(self, start: int, stop: int) -> list[Row]:
        self._seen.extend(islice(self._coming, max(0, stop - len(self._seen))))
        return self._seen[start:stop]


class Shelf(Protocol):
    """Versions of the features, and the one pointer that says which of them is read."""

    def lock(self) -> AbstractContextManager[None]:
        """One publisher at a time. Raises UserError while another holds it, or where the store isn't ours."""
        ...

    def pointer(self) -> Pointer | None: ...

    def begin(self, version: Version, keep: Sequence[Version]) -> int:
        """Make ready for writing: how many of the version's rows an interrupted attempt has written for certain.

        What attempts at others than `keep` left is dropped.
        """
        ...

    def check_room(self, users: int, vector_bytes: int, *, allow_eviction: bool) -> tuple[str, ...]:
        """Warnings. Raises UserError where so many more users don't fit, or the store may drop some by itself."""
        ...

    def write(self, version: Version, block: Block, done: int) -> None:
        """Write a block; then note that the first `done` rows are there.

        Raises Refused when the store is full, UserError when another publisher has taken over.
        """
        ...

    def users(self, version: Version) -> int:
        """How many users the version really holds."""
        ...

    def lookup(self, version: Version, fields: Sequence[bytes]) -> list[bytes | None]: ...

    def flip(self, expected: Pointer | None, to: Pointer) -> bool:
        """Compare-and-set; False when the pointer is no longer what was expected."""
        ...

    def drop(self, version: Version) -> None:
        """Remove a version that nobody reads. Like `sweep` raises UserError when another publisher has taken over."""
        ...

    def mend(self, version: Version) -> None:
        """Remove what stands in the place of a version's users and is none, so that they can be written again."""
        ...

    def sweep(self, keep: Sequence[Version]) -> None:
        """Let every version but these expire."""
        ...

    def memory(self, version: Version) -> int | None:
        """About how many bytes the version takes."""
        ...

    def advice(self, version: Version, vector_bytes: int) -> tuple[str, ...]:
        """What to set so that it takes less."""
        ...
