"""How far each destination has been sent the log: one durable file per destination.

A cursor names what was acknowledged: segments that are done, and how many lines of one that is not. Compaction asks it
which segments must stay on disk.
"""

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec

from decisioning.errors import UserError
from stores.log.segments import sealed_segments
from stores.log.table import sync_folder

CURSORS = "shipping"


class Place(msgspec.Struct, frozen=True):
    """How far one log has been sent."""

    done: frozenset[str] = frozenset()
    """Names of segments, as long as they are on disk."""
    segment: str = ""
    """The one that was begun, and not ended."""
    lines: int = 0
    """How many of its lines were acknowledged."""
    sent: int = 0
    """Lines in all."""
    at: float | None = None
    """When the last ones were acknowledged, in epoch seconds."""


class Cursor(msgspec.Struct, frozen=True):
    to: str
    """The destination's address, without any secret."""
    logs: dict[str, Place] = msgspec.field(default_factory=dict)


_decoder = msgspec.json.Decoder(Cursor)


@dataclass(frozen=True)
class Cursors:
    """Those of one `logs` folder."""

    logs: Path
    _folder: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folder", self.logs / CURSORS)

    def file(self, to: str) -> Path:
        return self._folder / f"{sha256(to.encode()).hexdigest()[:16]}.json"

    def read(self, to: str) -> Cursor:
        file = self.file(to)
        return _read(file) if file.is_file() else Cursor(to)

    def write(self, cursor: Cursor) -> None:
        """Durable when it returns."""
        file = self.file(cursor.to)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        with draft.open("wb") as stream:
            stream.write(msgspec.json.encode(cursor))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        sync_folder(file.parent)

    def all(self) -> list[Cursor]:
        return [_read(file) for file in sorted(self._folder.glob("*.json"))]

    def forget(self, to: str) -> bool:
        """False where nothing was ever sent there."""
        file = self.file(to)
        known = file.is_file()
        file.unlink(missing_ok=True)
        return known


def unshipped(log: Path) -> frozenset[str]:
    """The sealed segments of a log that some destination still waits for."""
    sealed = frozenset(path.name for path in sealed_segments(log))
    cursors = Cursors(log.parent).all()
    return frozenset().union(*(sealed - cursor.logs.get(log.name, Place()).done for cursor in cursors))


def _read(file: Path) -> Cursor:
    try:
        return _decoder.decode(file.read_bytes())
    except msgspec.MsgspecError as error:
        raise UserError(
            f"{file} is damaged ({error}): remove it, and what is still in segments will be sent again."
        ) from None
