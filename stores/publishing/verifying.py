"""Whether the features that servers read, and those that decisions were made with, are those of the snapshot.

Bit for bit: both sides are packed float32 vectors. A value that is missing on one side alone differs.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from decisioning.errors import UserError
from features.schema import TAG_BYTES, Schema
from features.snapshots import Snapshot
from stores.log.decision_log import DecisionRecord
from stores.online.layout import field_of
from stores.publishing.port import Shelf
from stores.publishing.publish import shelf_at
from stores.publishing.snapshot import SnapshotRows, publication

SAMPLE = 1_000
RUNS = 10
"""Places of the snapshot from which a sample is taken."""
MOST_NAMED = 20
"""Users that are named."""
ABSENT = "(the user is not in the store)"
SCHEMA = "(the vector is of another schema)"


@dataclass(frozen=True, slots=True)
class Difference:
    """`user` is the user key. Features by name, or why there is nothing to compare."""

    user: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skew:
    """What was compared, and what differs."""

    compared: int
    """Users of a snapshot, or decisions of the log."""
    differing: int
    by_feature: Mapping[str, int] = field(default_factory=dict)
    named: tuple[Difference, ...] = ()
    """The first ones that differ."""
    fresh: int = 0
    """Values left out because they are fresher than the snapshot."""
    uncompared: int = 0
    """Decisions of which there is no snapshot, or that were made without features."""
    lost: int = 0
    """Users that the store no longer has."""

    @property
    def ok(self) -> bool:
        return not self.differing and not self.lost


def verify_store(
    target: str | Shelf, snapshot: Snapshot, secret: bytes, users: int | None = SAMPLE, *, namespace: str = "segue"
) -> Skew:
    """Compares about so many users (None: all) of a snapshot with what the store at a URL or a shelf has of it.

    Raises UserError where the store doesn't have this snapshot, under this secret.
    """
    found = _Tally()
    with shelf_at(target, namespace) as shelf:
        pointer = shelf.pointer()
        versions = [one for one in (pointer.current, pointer.previous) if one] if pointer else []
        named = [one for one in versions if one.name == publication(snapshot, secret)]
        if not named:
            there = ", ".join(one.name for one in versions) or "none at all"
            raise UserError(
                f"The store doesn't have the features of snapshot {snapshot.id} as this work folder would publish "
                f"them; it has {there}. Publish it, or name another with --snapshot."
            )
        for fields, rows in _sampled(snapshot, secret, users):
            for one, row, packed in zip(fields, rows, shelf.lookup(named[0], fields), strict=True):
                found.add(one.hex(), _differing(snapshot.schema, row, packed))
        return replace(found.skew(), lost=named[0].users - shelf.users(named[0]))


def verify_log(records: Sequence[DecisionRecord], snapshots: Iterable[Snapshot], secret: bytes) -> Skew:
    """Compares the features of logged decisions with those of the snapshots of the same moments.

    Where there are several snapshots of one moment, a decision was made with the one that it is nearest to.
    """
    users: dict[float | None, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, record in enumerate(records):
        users[record.facts.as_of][field_of(record.request.user)].append(at)
    nearest: dict[int, tuple[str, ...]] = {}
    for snapshot in snapshots:
        for one, row in _of_users(snapshot, secret, users.get(snapshot.as_of, {})):
            for at in users[snapshot.as_of][one]:
                differing = _logged_differently(records[at], snapshot.schema, row)
                nearest[at] = min(nearest.get(at, differing), differing, key=len)
    found = _Tally(uncompared=len(records) - len(nearest))
    for at, differing in nearest.items():
        found.add(records[at].request.user, differing)
        found.fresh += len(records[at].facts.fresh)
    return found.skew()


def _logged_differently(record: DecisionRecord, schema: Schema, row: np.ndarray) -> tuple[str, ...]:
    logged = schema.tag + schema.pack(record.facts.features)
    return tuple(name for name in _differing(schema, row, logged) if name not in record.facts.fresh)


class _Tally:
    def __init__(self, uncompared: int = 0) -> None:
        self.fresh = 0
        self._uncompared = uncompared
        self._compared = self._differing = 0
        self._features: Counter[str] = Counter()
        self._named: list[Difference] = []

    def add(self, user: str, differing: tuple[str, ...]) -> None:
        self._compared += 1
        if differing:
            self._differing += 1
            self._features.update(differing)
            self._named += [Difference(user, differing)] if len(self._named) < MOST_NAMED else []

    def skew(self) -> Skew:
        by_feature = dict(self._features.most_common())
        return Skew(self._compared, self._differing, by_feature, tuple(self._named), self.fresh, self._uncompared)


def _differing(schema: Schema, row: np.ndarray, packed: bytes | None) -> tuple[str, ...]:
    """The features in which a packed vector differs from the snapshot's `row` (uint8, without the tag)."""
    if packed is None:
        return (ABSENT,)
    if packed[:TAG_BYTES] != schema.tag or len(packed) != TAG_BYTES + len(row):
        return (SCHEMA,)
    theirs = np.frombuffer(packed, np.uint8, offset=TAG_BYTES)
    if np.array_equal(theirs, row):
        return ()
    return tuple(schema.names[at] for at in np.flatnonzero(theirs.view("<u4") != row.view("<u4")))


def _sampled(snapshot: Snapshot, secret: bytes, users: int | None) -> Iterator[tuple[Sequence[bytes], np.ndarray]]:
    """Fields and rows from places spread over the whole snapshot; the same ones for the same snapshot."""
    source = SnapshotRows(snapshot, secret)
    if users is None or users >= snapshot.rows:
        spans = [(0, snapshot.rows)]
    else:
        runs = min(RUNS, users)
        length, stretch = -(-users // runs), snapshot.rows / runs
        chance = random.Random(snapshot.id)
        starts = [int(at * stretch + chance.random() * max(0.0, stretch - length)) for at in range(runs)]
        spans = [(start, min(start + length, snapshot.rows)) for start in starts]
    for start, stop in spans:
        for block in source.blocks(start, stop):
            yield block.fields, block.vectors


def _of_users(snapshot: Snapshot, secret: bytes, users: Collection[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
    if not users:
        return
    for block in SnapshotRows(snapshot, secret).blocks():
        yield from ((one, row) for one, row in zip(block.fields, block.vectors, strict=True) if one in users)
