"""The file of API keys, and what changes it: whole or not at all, one change at a time, for its owner's eyes alone."""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from decisioning.errors import UserError
from stores.api_keys import MOST_CLIENTS, NAME, SCOPES, VERSION, Client, Clients, Key, Limit, digest, parse

PREFIX = "segue_"
"""What every key begins with, so that scanners for leaked secrets can know one."""
RANDOM_BYTES = 32
ID_DIGITS = 8
MOST_KEYS = 2
"""Active keys of a client: the one in use, and its successor while the client's installations change over."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, the only time that it can be read."""

    client: Client
    key: Key
    text: str


class KeyFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def clients(self) -> tuple[Client, ...]:
        """Raises UserError where the file is damaged."""
        try:
            return parse(self.path.read_bytes()) if self.path.exists() else ()
        except ValueError as error:
            raise UserError(
                f"The keys in {self.path} can't be used: {error}. Bring the file back from a copy; or move it away, "
                "and make new keys."
            ) from None

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        limit: Limit | None = None,
        expires_at: float | None = None,
        who: str,
        now: float,
    ) -> Issued:
        """A new client with its first key. Raises UserError for a name that is taken or no name, and wrong scopes."""
        if not NAME.fullmatch(name):
            raise UserError("A client's name has up to 64 small letters, digits, and _ . - between them.")
        with self._changing() as clients:
            if any(one.name == name for one in clients):
                raise UserError(f"There is a client {name} already: `segue keys rotate {name}` gives it a new key.")
            key, text = _new_key(expires_at, who, now)
            client = Client(name, _free_place(clients), _in_order(scopes), (key,), limit)
            clients.append(client)
        return Issued(client, key, text)

    def rotate(self, name: str, *, expires_at: float | None = None, who: str, now: float) -> Issued:
        """A second key for a client. Raises UserError where it has two active ones already."""
        with self._changing() as clients:
            at = _index(clients, name)
            client = clients[at]
            active = tuple(key for key in client.keys if key.is_active(now))
            if len(active) >= MOST_KEYS:
                ids = " or ".join(key.id for key in active)
                raise UserError(
                    f"{name} has {MOST_KEYS} keys already: first revoke the one that is no longer used, "
                    f"`segue keys revoke {name} ID` with {ids}."
                )
            key, text = _new_key(expires_at, who, now)
            clients[at] = client = replace(client, keys=(*active, key))
        return Issued(client, key, text)

    def change(
        self, name: str, *, scopes: Sequence[str] | None = None, limit: Limit | None = None, unlimited: bool = False
    ) -> Client:
        """Gives a client and its keys other scopes, another limit, or none. What is None stays as it is."""
        with self._changing() as clients:
            at = _index(clients, name)
            before = clients[at]
            clients[at] = client = replace(
                before,
                scopes=before.scopes if scopes is None else _in_order(scopes),
                limit=None if unlimited else limit or before.limit,
            )
        return client

    def revoke(self, name: str, key_id: str | None = None) -> tuple[Key, ...]:
        """Takes one key of a client away, or all of them and the client with them. Returns those that are gone."""
        with self._changing() as clients:
            at = _index(clients, name)
            keys = clients[at].keys
            gone = tuple(key for key in keys if key_id in (None, key.id))
            if not gone:
                raise UserError(f"{name} has no key {key_id}. It has: {', '.join(key.id for key in keys)}.")
            left = tuple(key for key in keys if key not in gone)
            if left:
                clients[at] = replace(clients[at], keys=left)
            else:
                del clients[at]
        return gone

    @contextmanager
    def _changing(self) -> Iterator[list[Client]]:
        """The clients, to be changed in place; written if nothing was raised."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            clients = list(self.clients())
            yield clients
            _write(self.path, msgspec.json.format(msgspec.json.encode(Clients(VERSION, tuple(clients)))) + b"\n")


def _in_order(scopes: Sequence[str]) -> tuple[str, ...]:
    return tuple(scope for scope in SCOPES if scope in scopes)


def _free_place(clients: Sequence[Client]) -> int:
    """Rather one that nobody had: servers may still know what its last client used of its limit."""
    taken = {one.place for one in clients}
    after = max(taken, default=-1) + 1
    for place in (after, *range(MOST_CLIENTS)):
        if place < MOST_CLIENTS and place not in taken:
            return place
    raise UserError(f"There are {MOST_CLIENTS} clients already: revoke one that is not used.")


def _index(clients: Sequence[Client], name: str) -> int:
    for at, one in enumerate(clients):
        if one.name == name:
            return at
    known = ", ".join(one.name for one in clients) or "none"
    raise UserError(f"There is no client {name}. There are: {known}.")


def _new_key(expires_at: float | None, who: str, now: float) -> tuple[Key, str]:
    text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    hashed = digest(text.encode())
    return Key(hashed[:ID_DIGITS], hashed, now, who, expires_at), text


def _write(path: Path, content: bytes) -> None:
    """Puts a new file in the place of the old one: readers see the one or the other. Owner and mode stay."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        with suppress(FileNotFoundError):
            old = path.stat()
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            with suppress(PermissionError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a machine that loses its power may bring back a key that was revoked
    finally:
        os.close(folder)
