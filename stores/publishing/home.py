"""What verbs do with the published features of a work folder: publish its snapshot, return to the one before."""

from collections.abc import Callable
from typing import Any

from decisioning.errors import UserError
from stores.home import Home
from stores.publishing.publish import Published, pointer_of, rollback
from stores.releases import ReleaseStore


def publish_features(
    home: Home,
    url: str,
    progress: Callable[[int, int], object],
    *,
    again: bool = False,
    other_schema: bool = False,
    allow_eviction: bool = False,
) -> dict[str, Any]:
    """Publishes to the store at `url`.

    Unless `other_schema` is set, raises UserError where the release in use could not read the features.
    """
    from features.snapshots import current  # heavy
    from stores.publishing.snapshot import publish_snapshot, refuse_unread

    snapshot = current(home.snapshots)
    if not other_schema:
        refuse_unread(snapshot.schema, ReleaseStore(home.releases))
    published = publish_snapshot(
        url,
        snapshot,
        home.secret(),
        progress=progress,
        namespace=home.namespace,
        again=again,
        allow_eviction=allow_eviction,
    )
    return _told(published)


def roll_features_back(home: Home, url: str, *, other_schema: bool = False) -> dict[str, Any]:
    """Returns to the version before. Unless `other_schema` is set, raises UserError as `publish_features` does."""
    pointer, releases = pointer_of(url, namespace=home.namespace), ReleaseStore(home.releases)
    release, to = releases.current(), pointer and pointer.previous
    if release and to and not other_schema and releases.schema(release).hash != to.schema:
        raise UserError(
            f"The release in use ({release}) can't read the earlier features ({to.name}), which have another schema: "
            "roll the release back first (`segue rollback`), or go on with --other-schema."
        )
    return _told(rollback(url, namespace=home.namespace))


def _told(published: Published) -> dict[str, Any]:
    told = {
        "snapshot": published.version,
        "users": published.users,
        "bytes_per_user": published.bytes_per_user and round(published.bytes_per_user, 1),
        "seconds": round(published.seconds, 3),
        "changed": published.changed,
    }
    more = {"resumed_at": published.resumed_at, "warnings": list(published.warnings)}
    return told | {name: value for name, value in more.items() if value}
