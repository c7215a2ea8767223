"""Erasing one user from the online store: every version's features, the user's own keys, and what budgets hold.

Works on one server and on a cluster, while servers serve from it. Nothing is published meanwhile, and a version that
lost its user says so, so that it is still taken for whole.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from redis import Redis

from decisioning.errors import UserError
from stores.connect import FAILURES, connect
from stores.online.layout import Keys, Pointer, Version, bucket_of, field_of
from stores.publishing.redis_store import RedisShelf
from stores.publishing.wire import Wire, command

TIMEOUT_SECONDS = 30.0
PAGE = 1_000
"""Keys that a server is asked for at a time."""


@dataclass(frozen=True, slots=True)
class InStore:
    """What a store holds of a user, or held."""

    features: int = 0
    """Versions with the user's features."""
    keys: int = 0
    """The user's own: history, trimmed ids, fresh values, sticky answers."""
    units: int = 0
    """Entries of budgets: units held on lease or confirmed, and events that were counted."""

    @property
    def total(self) -> int:
        return self.features + self.keys + self.units


def erase_from_store(
    url: str, namespace: str, user: str, decisions: Collection[str] = (), *, dry_run: bool = False
) -> InStore:
    """What was there of a user key; with `dry_run`, what is. `decisions`: ids of the user's decisions.

    Raises UserError while features are being published, and for whatever is wrong with the store; what was erased by
    then stays erased, and erasing again goes on.
    """
    client = None
    try:
        client = connect(url, TIMEOUT_SECONDS)
        shelf = RedisShelf(client, namespace)
        with nullcontext() if dry_run else shelf.lock():
            return _Store(client, shelf, namespace, user, frozenset(decisions), dry_run).erase()
    except FAILURES as error:
        raise UserError(
            f"The online store failed ({type(error).__name__}: {error}): erase again when it is up."
        ) from error
    finally:
        if client:
            client.close()


def save_in(url: str, folder: Path) -> None:
    """Where the store is the embedded server of this folder: its file on disk becomes what it holds now."""
    if not url.startswith("unix://"):
        return
    with connect(url, TIMEOUT_SECONDS) as client:
        if Path(client.config_get("dir")["dir"]) == folder.resolve():
            client.save()


class _Store:
    def __init__(
        self, client: object, shelf: RedisShelf, namespace: str, user: str, decisions: frozenset[str], dry_run: bool
    ) -> None:
        self._client, self._shelf, self._wire = client, shelf, Wire(client)
        self._namespace, self._keys = namespace, Keys(namespace)
        self._user, self._field, self._decisions, self._dry_run = user, field_of(user), decisions, dry_run

    def erase(self) -> InStore:
        versions = self._versions()
        features = sum(self._remove(b"HDEL", b"HEXISTS", [self._bucket(one) for one in versions], self._field))
        own: list[bytes] = []
        others: list[bytes] = []
        units = 0
        known = tuple(f"{self._namespace}:fs:{one.name}:".encode() for one in versions)
        for server in self._wire.servers:
            for key in self._names(server):
                if self._user.encode() in key:
                    own.append(key)
                elif key.startswith(f"{self._namespace}:fs:".encode()):
                    if not key.startswith(known):  # of a version that is on its way out
                        others.append(key)
                elif b"{budgets}" in key:
                    units += self._erase_units(server, key)
        features += sum(self._remove(b"HDEL", b"HEXISTS", others, self._field))
        keys = sum(self._remove(b"UNLINK", b"EXISTS", own))
        if not self._dry_run:
            self._adjust()
        return InStore(features, keys, units)

    def _remove(self, remove: bytes, exists: bytes, keys: list[bytes], *words: bytes) -> Iterator[int]:
        return self._wire.ask(command(exists if self._dry_run else remove, key, *words) for key in keys)

    def _names(self, server: Redis) -> Iterator[bytes]:
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self._namespace)
        yield from server.scan_iter(match=f"{pattern}:*", count=PAGE)

    def _erase_units(self, server: Redis, key: bytes) -> int:
        """Holders are `decision|offer`, events that were counted `user|event`."""
        if server.type(key) != b"zset":
            return 0
        mine = [one for one, _ in server.zscan_iter(key, count=PAGE) if self._is_mine(one)]
        return server.zrem(key, *mine) if mine and not self._dry_run else len(mine)

    def _is_mine(self, member: bytes) -> bool:
        whose = member.decode(errors="replace").partition("|")[0]
        return whose == self._user or whose in self._decisions

    def _bucket(self, version: Version) -> bytes:
        return self._keys.bucket(version, bucket_of(self._field, version.buckets)).encode()

    def _versions(self) -> list[Version]:
        """All that may have keys."""
        pointer = self._shelf.pointer()
        found = [one for one in (pointer.current, pointer.previous) if one] if pointer else []
        for text in self._client.hvals(self._keys.versions):
            one = msgspec.json.decode(text, type=Version)
            if one.name not in {version.name for version in found}:
                found.append(one)
        return found

    def _adjust(self) -> None:
        """Versions say how many users they have. One fewer is the one that was erased, now or by a killed attempt."""
        pointer = self._shelf.pointer()
        if pointer is None:
            return
        current, previous = self._counted(pointer.current), pointer.previous and self._counted(pointer.previous)
        if Pointer(current, previous) == pointer:
            return
        if not self._shelf.flip(pointer, Pointer(current, previous)):
            raise UserError("Somebody else changed the published features in the meantime: erase again.")
        for one in filter(None, (current, previous)):
            self._client.hset(self._keys.versions, one.name, msgspec.json.encode(one))

    def _counted(self, version: Version) -> Version:
        held = self._shelf.users(version)
        return replace(version, users=held) if held == version.users - 1 else version
