"""Who was erased: a record that tells nobody who it was, and the lines that a log has to do without from then on.

A record holds a keyed hash of the user's key (itself a keyed hash of the id, see `identity`), the moment, and who
asked. With it, compaction and shipping leave out what reaches them later of what was logged before the erasure: the
segment that a server had open, the events that a phone had kept. What a user does afterwards is a new story, and stays.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from decisioning.errors import UserError
from decisioning.identity import user_key
from stores.log.columns import Drop
from stores.log.table import sync_folder

FILE = "erasures.jsonl"
SALT = "erased:"
"""So that the hash in a record is no key that is used anywhere else."""
REMEMBERED = 100_000


@dataclass(frozen=True)
class Erasures:
    """Those of one home: by hash, the moment of the latest."""

    secret: bytes
    moments: Mapping[str, float]

    @property
    def drop(self) -> Drop | None:
        """Whether a record belongs to an erased user, from before the erasure; None where nobody was erased."""
        if not self.moments:
            return None
        marked = lru_cache(REMEMBERED)(lambda key: self.moments.get(mark(self.secret, key), 0.0))
        return lambda line, entry: entry is not None and entry.at <= marked(entry.user)


def mark(secret: bytes, key: str) -> str:
    """What stands for a user's key in the record."""
    return user_key(secret, SALT + key)


def read_erasures(home: Path, secret: bytes) -> Erasures:
    """Raises UserError for a line that is no record: to guess would be to bring somebody back."""
    file = home / FILE
    moments: dict[str, float] = {}
    for number, line in enumerate(file.read_text().splitlines() if file.is_file() else [], 1):
        try:
            record = json.loads(line)
            moments[record["user"]] = max(float(record["at"]), moments.get(record["user"], 0.0))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}, line {number} is no record of an erasure: mend it or remove the line.") from None
    return Erasures(secret, moments)


def record_erasure(home: Path, secret: bytes, key: str, *, at: float, who: str) -> None:
    """Durable when it returns; whole or not at all."""
    line = json.dumps({"user": mark(secret, key), "at": at, "by": who}) + "\n"
    before = (home / FILE).read_bytes() if (home / FILE).is_file() else b""
    draft = home / f".{FILE}.{os.getpid()}"
    with draft.open("wb") as file:
        file.write(before + line.encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(home / FILE)
    sync_folder(home)
