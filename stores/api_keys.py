"""Who may call the API: one small file of clients, with their keys as hashes, their scopes and their limits.

A key is 256 random bits, shown once. Its plain SHA-256 is kept: nobody can guess 256 bits, so that a slow hash, which
guards passwords that people choose, would guard nothing here and only make servers slow. Whoever reads the file can
call nothing.
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec.structs import replace

from decisioning.errors import UserError

PREFIX = "segue_"
"""What every key begins with, so that scanners for leaked secrets can know one."""
RANDOM_BYTES = 32
ID_DIGITS = 8
MOST_KEYS = 2
"""Active keys of a client: the one in use, and its successor while the client's installations change over."""
MOST_CLIENTS = 4096
MOST_REQUESTS = 1_000_000
VERSION = 1

DECIDE, EVENTS, EXPLAIN, METRICS = "decide", "events", "explain", "metrics"
SCOPES = {
    DECIDE: "ask for decisions: POST /v1/decisions",
    EVENTS: "report what happened: POST /v1/events",
    EXPLAIN: "ask with `explain` or `dry_run` (besides decide): reasons tell of the rules and of the user",
    METRICS: "read GET /metrics",
}

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_LIMIT = re.compile(r"([1-9]\d{0,6})/([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many requests, at most `MOST_REQUESTS`, in so many seconds."""

    requests: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.requests}/{next(unit for unit, long in _SECONDS.items() if long == self.seconds)}"


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    id: str
    """The first digits of its hash: for people, and for logs."""
    sha256: str
    made_at: float
    made_by: str
    expires_at: float | None = None

    def is_active(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Its keys share its scopes and its limit, so that a rotation changes neither."""

    name: str
    place: int
    """Its own among all clients: where servers keep how much of its limit is used."""
    scopes: tuple[str, ...]
    keys: tuple[Key, ...]
    limit: Limit | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    clients: tuple[Client, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, the only time that it can be read."""

    client: Client
    key: Key
    text: str


def digest(text: bytes) -> str:
    return sha256(text).hexdigest()


def parse(content: bytes) -> tuple[Client, ...]:
    """The clients of a file. Raises ValueError, which says what is wrong, for one that is damaged in any way."""
    try:
        file = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no file of keys ({error})") from None
    if file.version != VERSION:
        raise ValueError(f"it is of version {file.version}, and this Segue reads version {VERSION}")
    clients = file.clients
    hashes = [key.sha256 for client in clients for key in client.keys]
    for what, values in (
        ("name", [client.name for client in clients]),
        ("place", [client.place for client in clients]),
        ("key", hashes),
    ):
        if len(set(values)) < len(values):
            raise ValueError(f"two of its clients have the same {what}")
    for client in clients:
        _check(client)
    return clients


def parse_limit(text: str) -> Limit:
    """`500/s`, `1000/m`, `20000/h`, `100000/d`. Raises UserError."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None or int(found[1]) > MOST_REQUESTS:
        raise UserError(f"--limit can't be {text}: write it as 500/s, 1000/m, 20000/h or 100000/d, up to a million.")
    return Limit(int(found[1]), _SECONDS[found[2]])


class KeyFile:
    """The file, and what changes it: whole or not at all, one change at a time, for its owner's eyes alone."""

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
        scopes = tuple(scope for scope in SCOPES if scope in scopes)
        if not _NAME.fullmatch(name):
            raise UserError("A client's name has up to 64 small letters, digits, and _ . - between them.")
        with self._changing() as clients:
            if any(one.name == name for one in clients):
                raise UserError(f"There is a client {name} already: `segue keys rotate {name}` gives it a new key.")
            key, text = _new_key(expires_at, who, now)
            client = Client(name, _free_place(clients), scopes, (key,), limit)
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
            _write(self.path, msgspec.json.format(msgspec.json.encode(_File(VERSION, tuple(clients)))) + b"\n")


def _check(client: Client) -> None:
    if not _NAME.fullmatch(client.name) or not 0 <= client.place < MOST_CLIENTS or not client.keys:
        raise ValueError("one of its clients has no proper name, no place, or no key")
    unknown = set(client.scopes) - set(SCOPES)
    if unknown:
        raise ValueError(f"{client.name} has a scope that is not known: {', '.join(sorted(unknown))}")
    if any(re.fullmatch("[0-9a-f]{64}", key.sha256) is None for key in client.keys):
        raise ValueError(f"a key of {client.name} is no SHA-256")
    limit = client.limit
    if limit is not None and (not 1 <= limit.requests <= MOST_REQUESTS or limit.seconds not in _SECONDS.values()):
        raise ValueError(f"the limit of {client.name} is none")


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
