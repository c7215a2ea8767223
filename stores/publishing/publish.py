"""Publishing a feature snapshot to an online store: beside the old one, checked, then switched to in one step.

A reader never sees a mix of two snapshots, nor a gap: the version that it may still be reading is kept. Rows are
written in the snapshot's order, and the store remembers how many it has: an attempt that was killed goes on there.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from decisioning.errors import UserError
from features.schema import TAG_BYTES, Schema
from stores.online.layout import Pointer, Version, buckets_for
from stores.publishing.port import Block, Refused, Row, Rows, Shelf, Source

SAMPLE = 1_000
"""Users that are read back."""

MOVED = "Somebody else changed the published features in the meantime; nothing was switched. Look, then try again."

T = TypeVar("T")


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
    resumed_at: int = 0
    """Users that an interrupted attempt had written already."""
    warnings: tuple[str, ...] = ()


def publish(
    target: str | Shelf,
    rows: Iterable[Row] | Source,
    *,
    schema: Schema,
    as_of: float,
    snapshot_id: str,
    count: int,
    progress: Callable[[int], object] = lambda users: None,
    namespace: str = "segue",
    again: bool = False,
    allow_eviction: bool = False,
) -> Published:
    """Publish a snapshot's `rows` (user key, vector packed by `schema`) to a URL or a shelf.

    `count` is what the snapshot's manifest says; `progress` is called with the number of users just written. The same
    snapshot again changes nothing and reads no rows, unless the store has lost some of them or `again` is set: then it
    is written over in place. Raises UserError, and leaves the current version as it was, when the rows are incomplete,
    a sample reads back differently, the store is too small or not ours, or somebody else publishes at the same time.
    """
    started = time.perf_counter()
    version = Version(snapshot_id, buckets_for(count), as_of, schema.hash, count)
    source = rows if isinstance(rows, Source) else Rows(rows)
    with shelf_at(target, namespace) as shelf, shelf.lock():
        before = shelf.pointer()
        kept = {known.name: known for known in (before.current, before.previous) if known} if before else {}
        if kept.pop(snapshot_id, version) != version:
            raise UserError(f"Snapshot {snapshot_id} is in the store with other contents: build a new snapshot.")
        in_use = before is not None and before.current == version
        held = shelf.users(version) if before and version in (before.current, before.previous) else 0
        if in_use and held == count and not again:
            return _published(shelf, version, started, changed=False)
        resumed_at, warnings, size = 0, (), TAG_BYTES + 4 * schema.width
        if held != count or again:
            source = Tagged(source, schema.tag)
            if in_use:
                shelf.mend(version)
            else:
                resumed_at = _begin(shelf, version, [*kept.values()], source)
            missing = count - (held if in_use else resumed_at)
            warnings = shelf.check_room(missing, size, allow_eviction=allow_eviction)
            try:
                _fill(shelf, version, source, resumed_at, progress)
            except Refused:
                if not in_use:
                    shelf.drop(version)
                raise
        to = before if in_use else Pointer(version, before.current if before else None)
        if not shelf.flip(before, to):
            raise UserError(MOVED)
        shelf.sweep([known for known in (to.current, to.previous) if known])
        warnings += shelf.advice(version, size)
        return _published(shelf, version, started, resumed_at=resumed_at, warnings=warnings)


def rollback(target: str | Shelf, *, namespace: str = "segue") -> Published:
    """Return to the version before the current one. Raises UserError when there is none, or not all of it."""
    started = time.perf_counter()
    with shelf_at(target, namespace) as shelf, shelf.lock():
        before = shelf.pointer()
        if before is None or before.previous is None:
            raise UserError("There are no earlier features in the store to return to: publish a snapshot instead.")
        to = before.previous
        if (held := shelf.users(to)) != to.users:
            raise UserError(
                f"The earlier features ({to.name}) are no longer whole: the store has {held:,} of {to.users:,} users. "
                "The features in use are unchanged; publish that snapshot again instead."
            )
        if not shelf.flip(before, Pointer(to)):
            raise UserError(MOVED)
        shelf.sweep([to])
        return _published(shelf, to, started)


def published(target: str | Shelf, *, namespace: str = "segue") -> Version | None:
    """The version that readers use now."""
    pointer = pointer_of(target, namespace=namespace)
    return pointer.current if pointer else None


def pointer_of(target: str | Shelf, *, namespace: str = "segue") -> Pointer | None:
    """The version that readers use now, and the one that a rollback returns to."""
    with shelf_at(target, namespace) as shelf:
        return shelf.pointer()


def shelf_at(target: str | Shelf, namespace: str) -> AbstractContextManager[Shelf]:
    """The shelf at a URL; a shelf is one already."""
    if not isinstance(target, str):
        return nullcontext(target)
    from stores.publishing.redis_store import opened  # only those who publish to a server need its client

    return opened(target, namespace)


def _published(shelf: Shelf, version: Version, started: float, **told: object) -> Published:
    memory = shelf.memory(version)
    per_user = memory / version.users if memory is not None and version.users else None
    return Published(version.name, version.users, per_user, time.perf_counter() - started, **told)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A source whose vectors begin with the tag of their schema, as the store has them."""

    source: Source
    tag: bytes

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        tag = np.frombuffer(self.tag, np.uint8)
        for block in self.source.blocks(start, stop):
            tags = np.broadcast_to(tag, (len(block.fields), len(tag)))
            yield Block(block.fields, np.concatenate([tags, block.vectors], axis=1))


def _begin(shelf: Shelf, version: Version, keep: Sequence[Version], source: Source) -> int:
    """How many rows are there from an interrupted attempt: none, where they aren't what the source says."""
    done = shelf.begin(version, keep)
    if not done:
        return 0
    first = random.Random(version.name).randrange(done)
    left = _rows(source.blocks(first, min(done, first + SAMPLE)))
    if not _different(shelf, version, left):
        return done
    shelf.drop(version)
    return shelf.begin(version, keep)


def _fill(shelf: Shelf, version: Version, source: Source, done: int, progress: Callable[[int], object]) -> None:
    """Write the rows from `done` on, and check that all are there."""
    progress(done)
    chance, each = random.Random(version.name), SAMPLE / max(1, version.users - done)
    sample: dict[bytes, bytes] = {}
    for block in _ahead(source.blocks(done)):
        done += len(block.fields)
        shelf.write(version, block, done)
        chosen = (at for at in range(len(block.fields)) if each >= 1 or chance.random() < each)
        sample |= {block.fields[at]: block.vectors[at].tobytes() for at in chosen}
        progress(len(block.fields))
    held = shelf.users(version)
    if held != version.users:
        raise Refused(
            f"Snapshot {version.name} says it has {version.users} users, but {held} arrived in the store; "
            "the features in use are unchanged. Build the snapshot again."
        )
    if damaged := _different(shelf, version, sample):
        raise Refused(
            f"{len(damaged)} of {len(sample)} users of snapshot {version.name} read back differently from what was "
            "written; the features in use are unchanged. Check the store's memory limit, then publish again."
        )


def _rows(blocks: Iterable[Block]) -> dict[bytes, bytes]:
    return {field: bytes(row) for block in blocks for field, row in zip(block.fields, block.vectors, strict=True)}


def _different(shelf: Shelf, version: Version, rows: Mapping[bytes, bytes]) -> list[bytes]:
    """Whose vectors the store has otherwise."""
    fields = list(rows)
    return [one for one, found in zip(fields, shelf.lookup(version, fields), strict=True) if found != rows[one]]


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in another thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
