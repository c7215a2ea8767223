"""Who may call the API: clients, with their keys as hashes, their scopes and their limits, as one small file has them.

A key is 256 random bits, shown once. Its plain SHA-256 is kept: nobody can guess 256 bits, so that a slow hash, which
guards passwords that people choose, would guard nothing here and only make servers slow. Whoever reads the file can
call nothing.
"""

import re
from hashlib import sha256

import msgspec

from decisioning.errors import UserError

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

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
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


class Clients(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    clients: tuple[Client, ...]


def digest(text: bytes) -> str:
    return sha256(text).hexdigest()


def parse(content: bytes) -> tuple[Client, ...]:
    """The clients of a file. Raises ValueError, which says what is wrong, for one that is damaged in any way."""
    try:
        file = msgspec.json.decode(content, type=Clients)
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


def _check(client: Client) -> None:
    if not NAME.fullmatch(client.name) or not 0 <= client.place < MOST_CLIENTS or not client.keys:
        raise ValueError("one of its clients has no proper name, no place, or no key")
    unknown = set(client.scopes) - set(SCOPES)
    if unknown:
        raise ValueError(f"{client.name} has a scope that is not known: {', '.join(sorted(unknown))}")
    if any(re.fullmatch("[0-9a-f]{64}", key.sha256) is None for key in client.keys):
        raise ValueError(f"a key of {client.name} is no SHA-256")
    limit = client.limit
    if limit is not None and (not 1 <= limit.requests <= MOST_REQUESTS or limit.seconds not in _SECONDS.values()):
        raise ValueError(f"the limit of {client.name} is none")
