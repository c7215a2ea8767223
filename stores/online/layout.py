"""How the online store is laid out: keys, versions of the features, and the bytes of vectors and events.

Both twins and the publisher read and write through here, so that they cannot part. Keys, below a namespace:

    {fs}:current          the Pointer: which version readers use, and the one before it. With the three that follow it
                          shares one slot, so that a script can look at the lock and turn the pointer in one step
    {fs}:versions         hash: every version that may have keys → its description
    {fs}:progress         hash: a version that is being published → how many of the snapshot's rows it has for certain
    {fs}:lock             who is publishing
    fs:<version>:<bucket> hash of about 32 users (`field_of`) → packed vector. Small hashes are kept as listpacks, which
                          take less than half of the memory of plain ones. Buckets spread over all slots
    h:{user}, t:{user}    a user's newest events; ids of the events that no longer fit. One slot per user
    o:{user}              ids of events that may not have been counted towards their budgets yet → since when
    f:{user}              hash: values fresher than the snapshot, by feature (`stores.online.fresh`)
    s:{user}:{decision}   the answer of a sticky decision, until its period ends
    {budgets}:{name}      units spent; with :leases and :confirmed, who holds units until when. One slot for all budgets
    c:{budgets}           events that were counted towards their budgets → until when that is remembered
    killed                set of offers switched off by hand
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated
from zlib import crc32

import msgspec
import numpy as np
from msgspec.structs import astuple

from decisioning.domain import DECISION, Event, EventType, HistoryEvent
from decisioning.native import native

LAYOUT = 2
"""Of versions of the features: what was published under another one is no longer read."""
USERS_PER_BUCKET = 32
FIELD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Version:
    """One published snapshot: `name` is the snapshot's id, `as_of` epoch seconds, `schema` the schema's hash."""

    name: str
    buckets: Annotated[int, msgspec.Meta(ge=1)]
    as_of: float
    schema: str
    users: int


@dataclass(frozen=True, slots=True)
class Pointer:
    """What readers use, and what a rollback returns to."""

    current: Version
    previous: Version | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(text: bytes) -> "Pointer":
        """Raises ValueError for what is no pointer."""
        try:
            return _pointer.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None


_pointer = msgspec.json.Decoder(Pointer)


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys below one namespace. Braces mark what Redis Cluster hashes to find the slot."""

    namespace: str = "segue"

    @property
    def current(self) -> str:
        return f"{self.namespace}:{{fs}}:current"

    @property
    def versions(self) -> str:
        return f"{self.namespace}:{{fs}}:versions"

    @property
    def progress(self) -> str:
        return f"{self.namespace}:{{fs}}:progress"

    @property
    def lock(self) -> str:
        return f"{self.namespace}:{{fs}}:lock"

    @property
    def killed(self) -> str:
        return f"{self.namespace}:killed"

    def bucket(self, version: Version, number: int | str) -> str:
        return f"{self.namespace}:fs:{version.name}:{number}"

    def history(self, user: str) -> str:
        return f"{self.namespace}:h:{{{user}}}"

    def trimmed(self, user: str) -> str:
        return f"{self.namespace}:t:{{{user}}}"

    def owed(self, user: str) -> str:
        return f"{self.namespace}:o:{{{user}}}"

    def fresh(self, user: str) -> str:
        return f"{self.namespace}:f:{{{user}}}"

    def answer(self, user: str, decision_id: str) -> str:
        return f"{self.namespace}:s:{{{user}}}:{decision_id}"

    def budget(self, name: str) -> tuple[str, str, str]:
        """Spent units, leases, confirmed holders."""
        key = f"{self.namespace}:{{budgets}}:{name}"
        return key, f"{key}:leases", f"{key}:confirmed"

    @property
    def counted(self) -> str:
        return f"{self.namespace}:c:{{budgets}}"


def buckets_for(users: int) -> int:
    return max(1, users // USERS_PER_BUCKET)


def field_of(user: str) -> bytes:
    """The 16 bytes that stand for a user in a bucket: a user key as it is, without its hexadecimal digits.

    Any other text (no user key is any) is hashed to as many bytes.
    """
    try:
        field = bytes.fromhex(user)
    except ValueError:
        field = b""
    if len(field) == FIELD_BYTES == len(user) // 2:
        return field
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=FIELD_BYTES).digest()


def bucket_of(field: bytes, buckets: int) -> int:
    return crc32(field) % buckets


def buckets_of(fields: Sequence[bytes], buckets: int) -> np.ndarray:
    """`bucket_of` each, as uint32 of shape (fields,)."""
    return np.array([crc32(field) for field in fields], np.uint32) % np.uint32(buckets)


class _Packed(msgspec.Struct, array_like=True, order=True, frozen=True, gc=False):
    """What rules need of an event, as a MessagePack array that begins with the time: the server's script reads that."""

    at: float
    type: str
    offer: str
    surface: str
    decision: int = 0
    """A checksum of the decision's id: enough to know a decision's own events among one user's."""


_event = msgspec.msgpack.Decoder(_Packed)
_whole_event = msgspec.msgpack.Decoder(tuple[float, str, str, str, int])
"""The same as plain tuples, which are sorted and taken apart in less time."""


def pack_event(event: Event) -> bytes:
    mark = _mark(event.decision_id)
    return msgspec.msgpack.encode(_Packed(float(event.at), event.type, event.offer, event.surface, mark))


def _unpack_history(packed: list[bytes], own: str = "") -> tuple[HistoryEvent, ...]:
    """Oldest first. Raises msgspec.DecodeError, or UnicodeDecodeError, for what is no event.

    What the decision `own` itself showed is left out, so that an answer that is asked for again does not find itself
    in its way; what the user did about it stays.
    """
    try:
        rows = sorted(map(_whole_event.decode, packed))
    except msgspec.ValidationError:  # of other lengths than today's
        rows = sorted(map(astuple, map(_event.decode, packed)))
    if own:
        mark = _mark(own)
        rows = [row for row in rows if row[4] != mark or row[1] not in _SHOWN]
    return tuple([HistoryEvent(kind, offer, surface, at) for at, kind, offer, surface, _ in rows])


_SHOWN = frozenset({str(EventType.IMPRESSION), DECISION})
KINDS_KEPT = 16_384
"""Kinds of events (a type, an offer, a surface) whose texts the extension keeps; others it leaves to Python."""
VERSION = 2
"""Of what Python and the extension ask of one another: both have the same."""


def _mark(decision_id: str) -> int:
    return crc32(decision_id.encode("utf-8", "surrogatepass"))


_native = native("stores.online._events", VERSION)
unpack_history: Callable[..., tuple[HistoryEvent, ...]] = (
    _native.Reader(_unpack_history, _mark, HistoryEvent, _SHOWN, KINDS_KEPT).unpack if _native else _unpack_history
)
"""`_unpack_history`, which says what is right, or the extension that does the same in a fifth of the time."""
