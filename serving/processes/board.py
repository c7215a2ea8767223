"""What the processes of one server tell each other: a few rows of shared memory, made before the first fork.

Row 0 holds the verdict on releases, which the scout writes; each other row belongs to one worker, and to nobody else.
A row is a length, a checksum and JSON. A reader that meets a half-written row sees it by the checksum and looks again:
no lock, so that a process that is killed while it writes can hold up nobody.
"""

import mmap
from struct import Struct
from typing import TypeVar
from zlib import crc32

import msgspec

from decisioning.errors import UserError

ROW_BYTES = 16_384
HEAD = Struct("<II")
COUNT = Struct("<I")
CLOSED = 2**32 - 1
"""In place of a number of connections: nobody accepts any there."""
LOOKS = 5
"""Attempts at a row that somebody is writing; writing takes a microsecond."""

T = TypeVar("T", bound=msgspec.Struct)

STARTING, SERVING, DRAINING, FAILED = "starting", "serving", "draining", "failed"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself."""

    slot: int
    """Its place on the board: no other living worker has it."""
    pid: int
    state: str = STARTING
    build: str = ""
    release: str = "none"
    catalog: str = "none"
    models: dict[str, str] = {}
    """Model name → its label, such as "upsell/3"."""
    scorer: str = "none"
    """What sums the trees: c, numpy, or none where no model has any."""
    since: float = 0.0
    """When it took this release, in epoch seconds."""
    why: str = ""
    """Of a worker that failed: what its operator can mend."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the scout found of the releases on disk."""

    decided: bool = False
    """Whether it has looked at all."""
    approved: str = ""
    """The release for every worker; none: the rules of the catalog."""
    refused: str = ""
    """The release that `current` points to, where it was refused."""
    why: str = ""
    refusals: int = 0
    """How many releases were refused since the server started."""


class Board:
    """Room for so many workers at once; one that replaces another is a row of its own while both live."""

    def __init__(self, workers: int) -> None:
        self.places = range(1, 2 * workers + 2)
        self._counts = (1 + len(self.places)) * ROW_BYTES
        self._beats = self._counts + (1 + len(self.places)) * COUNT.size
        self._memory = mmap.mmap(-1, self._beats + (1 + len(self.places)) * COUNT.size)
        self._seen: dict[int, tuple[tuple[int, int], msgspec.Struct]] = {}
        """By place, what was read last and its length and checksum: as long as these stay, so does the row."""
        for place in self.places:
            self.clear(place)

    def verdict(self) -> Verdict:
        return self._read(0, Verdict) or Verdict()

    def approved(self) -> str | None:
        """The release for every worker; empty where the rules shall decide; None while nobody has looked yet."""
        verdict = self.verdict()
        return verdict.approved if verdict.decided else None

    def judge(self, verdict: Verdict) -> None:
        """For the scout alone."""
        self._write(0, verdict)

    def post(self, row: Row) -> None:
        """For the worker of that place alone."""
        self._write(row.slot, row)

    def clear(self, place: int) -> None:
        """For the supervisor, when the worker of that place is dead."""
        self.count(place, CLOSED)
        self._memory[place * ROW_BYTES : place * ROW_BYTES + HEAD.size] = bytes(HEAD.size)

    def row(self, place: int) -> Row | None:
        """None for a place where nobody works."""
        return self._read(place, Row)

    def rows(self) -> list[Row]:
        """Of all workers that live, in the order of their places."""
        found = [self.row(place) for place in self.places]
        return [row for row in found if row is not None]

    def count(self, place: int, connections: int) -> None:
        """How many connections a worker has open; CLOSED where it accepts no more."""
        COUNT.pack_into(self._memory, self._counts + COUNT.size * place, connections)

    def beat(self, place: int) -> None:
        """A sign of life, for the worker of that place."""
        COUNT.pack_into(self._memory, self._beats + COUNT.size * place, (self.beats(place) + 1) % CLOSED)

    def beats(self, place: int) -> int:
        """Changes as long as the worker of that place lives and doesn't hang."""
        return int(COUNT.unpack_from(self._memory, self._beats + COUNT.size * place)[0])

    def is_ahead(self, place: int) -> bool:
        """Whether another worker that accepts connections has fewer than the one of this place."""
        own = self._number(place)
        return any(self._number(other) < own for other in self.places if other != place)

    @property
    def restarts(self) -> int:
        """How many workers died and were started again."""
        return self._number(0)

    def note_restart(self) -> None:
        """For the supervisor alone."""
        self.count(0, self.restarts + 1)

    def _number(self, place: int) -> int:
        return int(COUNT.unpack_from(self._memory, self._counts + COUNT.size * place)[0])

    def _write(self, place: int, record: msgspec.Struct) -> None:
        content = msgspec.json.encode(record)
        if HEAD.size + len(content) > ROW_BYTES:
            raise UserError(f"A release with so many models can't be told of: {len(content)} bytes.")
        whole = HEAD.pack(len(content), crc32(content)) + content
        self._memory[place * ROW_BYTES : place * ROW_BYTES + len(whole)] = whole

    def _read(self, place: int, kind: type[T]) -> T | None:
        start = place * ROW_BYTES
        for _ in range(LOOKS):
            length, digest = head = HEAD.unpack_from(self._memory, start)
            before, known = self._seen.get(place, (None, None))
            if head == before and isinstance(known, kind):
                return known
            content = self._memory[start + HEAD.size : start + HEAD.size + min(length, ROW_BYTES)]
            if length == 0:
                return None
            if crc32(content) == digest:
                found = msgspec.json.decode(content, type=kind)
                self._seen[place] = (length, digest), found
                return found
        return None
