"""Publishing a feature snapshot to an online store: beside the old one, checked, then switched to in one step.

A reader never sees a mix of two snapshots, nor a gap: the version that it may still be reading is kept.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from decisioning.errors import UserError
from features.schema import Schema
from stores.layout import Pointer, Version, buckets_for, tag_of

Row = tuple[str, bytes]
"""A user key and a packed vector."""

BATCH = 20_000
SAMPLE = 1_000
ALREADY_PUBLISHING = (
    "Another process is publishing features to this store: wait until it ends, then try again "
    "(one that was killed is forgotten after a minute)."
)
MOVED = "Somebody else changed the published features in the meantime; nothing was switched. Look, then try again."


@dataclass(frozen=True, slots=True)
class Published:
    version: str
    """The snapshot's id."""
    users: int
    bytes_per_user: float | None
    """Memory of the store per user, sampled; None where it can't be known."""
    seconds: float
    changed: bool = True
    """False when this snapshot was the current one already, and nothing was done."""


class Shelf(Protocol):
    """Where versions of the features stand side by side, and the one pointer that says which of them is read."""

    def lock(self) -> AbstractContextManager[None]:
        """One publisher at a time. Raises UserError while another holds it."""
        ...

    def pointer(self) -> Pointer | None: ...

    def begin(self, version: Version) -> None:
        """Make ready for writing; what an interrupted attempt left under the same name is overwritten or dropped."""
        ...

    def write(self, version: Version, rows: Sequence[Row]) -> None:
        """`rows`: user key and the tagged vector."""
        ...

    def users(self, version: Version) -> int:
        """How many users the version really holds."""
        ...

    def lookup(self, version: Version, users: Sequence[str]) -> list[bytes | None]: ...

    def flip(self, expected: Pointer | None, to: Pointer) -> bool:
        """Compare-and-set; False when the pointer is no longer what was expected."""
        ...

    def sweep(self, keep: Sequence[Version]) -> None:
        """Let every version but these expire."""
        ...

    def memory(self, version: Version) -> int | None:
        """About how many bytes the version takes."""
        ...


def publish(
    target: "str | Shelf",
    rows: Iterable[Row],
    *,
    schema: Schema,
    as_of: float,
    snapshot_id: str,
    count: int,
    progress: Callable[[int], object] = lambda users: None,
    namespace: str = "segue",
) -> Published:
    """Publish a snapshot's `rows` (user key, vector packed by `schema`) to a URL or a shelf.

    `count` is what the snapshot's manifest says; `progress` is called with the number of users just written. The same
    snapshot again changes nothing and reads no rows. Raises UserError, and leaves the current version as it was, when
    the rows are incomplete, a sample reads back differently, or somebody else publishes at the same time.
    """
    started = time.perf_counter()
    version = Version(snapshot_id, buckets_for(count), as_of, schema.hash, count)
    with _opened(target, namespace) as shelf, shelf.lock():
        before = shelf.pointer()
        kept = {known.name: known for known in (before.current, before.previous) if known} if before else {}
        if kept.get(snapshot_id, version) != version:
            raise UserError(f"Snapshot {snapshot_id} is in the store with other contents: build a new snapshot.")
        if before and before.current == version:
            return _published(shelf, version, started, changed=False)
        if version.name not in kept:  # the previous one is still there, complete
            shelf.begin(version)
            _check(shelf, version, _write(shelf, version, rows, tag_of(schema), progress))
        if not shelf.flip(before, Pointer(version, before.current if before else None)):
            raise UserError(MOVED)
        shelf.sweep([version, before.current] if before else [version])
        return _published(shelf, version, started)


def rollback(target: "str | Shelf", *, namespace: str = "segue") -> Published:
    """Return to the version before the current one. Raises UserError when there is none to return to."""
    started = time.perf_counter()
    with _opened(target, namespace) as shelf, shelf.lock():
        before = shelf.pointer()
        if before is None or before.previous is None:
            raise UserError("There are no earlier features in the store to return to: publish a snapshot instead.")
        if not shelf.flip(before, Pointer(before.previous)):
            raise UserError(MOVED)
        return _published(shelf, before.previous, started)


def published(target: "str | Shelf", *, namespace: str = "segue") -> Version | None:
    """The version that readers use now."""
    with _opened(target, namespace) as shelf:
        pointer = shelf.pointer()
        return pointer.current if pointer else None


def _opened(target: "str | Shelf", namespace: str) -> "AbstractContextManager[Shelf]":
    if not isinstance(target, str):
        return nullcontext(target)
    from stores.publishing_redis import opened  # only those who publish to a server need its client

    return opened(target, namespace)


def _published(shelf: Shelf, version: Version, started: float, *, changed: bool = True) -> Published:
    memory = shelf.memory(version)
    per_user = memory / version.users if memory is not None and version.users else None
    return Published(version.name, version.users, per_user, time.perf_counter() - started, changed)


def _write(
    shelf: Shelf, version: Version, rows: Iterable[Row], tag: bytes, progress: Callable[[int], object]
) -> dict[str, bytes]:
    """Write all rows; return some of them, spread over the whole, to be read back."""
    chance = random.Random(version.name)
    each = min(1.0, SAMPLE / max(1, version.users))
    sample: dict[str, bytes] = {}
    for batch in _batches((user, tag + packed) for user, packed in rows):
        shelf.write(version, batch)
        sample.update(row for row in batch if chance.random() < each)
        progress(len(batch))
    return sample


def _check(shelf: Shelf, version: Version, sample: dict[str, bytes]) -> None:
    held = shelf.users(version)
    if held != version.users:
        raise UserError(
            f"Snapshot {version.name} says it has {version.users} users, but {held} arrived in the store; "
            "the features in use are unchanged. Build the snapshot again."
        )
    users = list(sample)
    damaged = [user for user, found in zip(users, shelf.lookup(version, users), strict=True) if found != sample[user]]
    if damaged:
        raise UserError(
            f"{len(damaged)} of {len(users)} users of snapshot {version.name} read back differently from what was "
            "written; the features in use are unchanged. Check the store's memory limit, then publish again."
        )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        yield batch
