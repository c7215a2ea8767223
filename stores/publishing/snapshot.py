"""A snapshot on disk published to an online store: its rows, its name there, and whether the servers could read it."""

from collections.abc import Callable, Iterator

import numpy as np

from decisioning.errors import UserError
from decisioning.identity import user_digests, user_key
from features.packing import packed_rows
from features.schema import Schema
from features.snapshots import Snapshot
from stores.online.layout import LAYOUT
from stores.publishing.port import Block, Shelf
from stores.publishing.publish import Published, publish
from stores.releases import ReleaseStore


class SnapshotRows:
    """The rows of a snapshot under the keys that `secret` gives its users: a `publishing_port.Source`."""

    def __init__(self, snapshot: Snapshot, secret: bytes):
        self._snapshot = snapshot
        self._secret = secret

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        parts = [self._snapshot.path / part for part in self._snapshot.manifest["parts"]]
        for user_ids, packed in packed_rows(parts, self._snapshot.schema, start, stop):
            yield Block(user_digests(self._secret, user_ids), packed.view(np.uint8))


def publish_snapshot(
    target: str | Shelf,
    snapshot: Snapshot,
    secret: bytes,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
    namespace: str = "segue",
    again: bool = False,
    allow_eviction: bool = False,
) -> Published:
    """`publishing.publish` for a snapshot. `progress` is called with the users that are written, and all there are.

    Raises UserError for a damaged snapshot besides.
    """
    done = 0

    def count(users: int) -> None:
        nonlocal done
        done += users
        progress(done, snapshot.rows)

    return publish(
        target,
        SnapshotRows(snapshot, secret),
        schema=snapshot.schema,
        as_of=snapshot.as_of,
        snapshot_id=publication(snapshot, secret),
        count=snapshot.rows,
        progress=count,
        namespace=namespace,
        again=again,
        allow_eviction=allow_eviction,
    )


def publication(snapshot: Snapshot, secret: bytes) -> str:
    """What a snapshot is called in the store. Under another secret or layout it is another publication."""
    return f"{snapshot.id}-{user_key(secret, f'layout {LAYOUT}')[:6]}"


def refuse_unread(schema: Schema, releases: ReleaseStore) -> None:
    """Raises UserError where the servers that use the current release could not read features of this schema."""
    release = releases.current()
    if release is not None and (read := releases.schema(release)).hash != schema.hash:
        raise UserError(
            f"The release in use ({release}) reads other features: {_difference(read, schema)}. With these, decisions "
            "would be made without features until a release that reads them is promoted. Build a snapshot of that "
            "release's features, or go on with --other-schema and promote at once."
        )


def _difference(read: Schema, offered: Schema) -> str:
    """How the features that are offered differ from those that are read, in words."""
    theirs, ours = ({spec.name: (spec.type, spec.values) for spec in schema.specs} for schema in (read, offered))
    told = {
        "the snapshot lacks": theirs.keys() - ours.keys(),
        "it adds": ours.keys() - theirs.keys(),
        "it changes the type or values of": {
            name for name in theirs.keys() & ours.keys() if theirs[name] != ours[name]
        },
    }
    return "; ".join(f"{words} {', '.join(sorted(names))}" for words, names in told.items() if names)
