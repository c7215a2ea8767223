"""Erasing one user from a whole home: the dataset, snapshots, the online store, the log; then looking for what is left.

The erasure goes on record first, so that whatever was under way (the segment that a server has open, the events that a
phone has kept) is left out when it is compacted or shipped. Each part may be interrupted: erasing again goes on. What
this can't reach is named: backups, brokers that were shipped to, and the files that data were imported from.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from decisioning.errors import UserError
from decisioning.identity import user_key
from stores.erasing.erasures import read_erasures, record_erasure
from stores.erasing.files import Person, erase_from_files
from stores.erasing.log import InLog, erase_from_log, find_in_log
from stores.erasing.proof import Left, Search
from stores.erasing.store import InStore, erase_from_store, save_in
from stores.home import Home
from stores.log.columns import DECISIONS, EVENTS
from stores.log.cursors import Cursors
from stores.log.segments import seal

SEAL_SECONDS = 5.0
"""How long a running server may take to seal what it writes; it looks every fifth of a second."""


@dataclass(frozen=True)
class Erased:
    """What was erased (or would be), and what was found afterwards."""

    store: InStore | None
    """None where there is no store to look at."""
    log: InLog
    rows: dict[str, int]
    """By file of the dataset, of snapshots, and of others."""
    left: list[Left] = field(default_factory=list)
    """Files that still hold the id or the key, or that can't be read."""
    left_in_store: InStore = field(default_factory=InStore)
    shipped_to: list[str] = field(default_factory=list)
    """Where the log was shipped to: to be erased there."""

    @property
    def total(self) -> int:
        return (self.store.total if self.store else 0) + self.log.lines.total() + sum(self.rows.values())

    @property
    def ok(self) -> bool:
        """Whether nothing was found afterwards."""
        return not self.left and not self.left_in_store.total


def find(home: Home, user_id: str, url: str | None) -> Erased:
    """What an erasure would erase; changes nothing."""
    person = _person(home, user_id)
    log = find_in_log(home.logs, person.key)
    rows = erase_from_files(home, person, dry_run=True)
    store = erase_from_store(url, home.namespace, person.key, log.decisions, dry_run=True) if url else None
    return Erased(store, log, rows, shipped_to=_shipped_to(home))


def erase(home: Home, user_id: str, url: str | None, *, who: str, now: float, seconds: float = SEAL_SECONDS) -> Erased:
    """Erases a user, and looks for what is left. `url`: the online store, if there is one; `now` in epoch seconds.

    Raises UserError while something else publishes, compacts, ships or erases: then erase again.
    """
    person = _person(home, user_id)
    with _alone(home.path):
        record_erasure(home.path, home.secret(), person.key, at=now, who=who)
        for name in (DECISIONS, EVENTS):
            seal(home.logs / name, seconds)
        log = find_in_log(home.logs, person.key)
        rows = erase_from_files(home, replace(person, decisions=frozenset(log.decisions)))
        store, left_in_store = None, InStore()
        if url:  # before the log, as it knows the decisions that units are held by
            store = erase_from_store(url, home.namespace, person.key, log.decisions)
            save_in(url, home.valkey)
        erase_from_log(home.logs, person.key, log, read_erasures(home.path, home.secret()).drop)
        if url:
            left_in_store = erase_from_store(url, home.namespace, person.key, log.decisions, dry_run=True)
        left = list(Search(person.id, person.key).files(home.path))
    return Erased(store, log, rows, left, left_in_store, _shipped_to(home))


def _person(home: Home, user_id: str) -> Person:
    if not user_id.strip():
        raise UserError("The user's id is empty.")
    if not home.path.is_dir():
        raise UserError(f"There is no work folder at {home.path}: name the right one with --home.")
    return Person(user_id, user_key(home.secret(), user_id))


def _shipped_to(home: Home) -> list[str]:
    return [cursor.to for cursor in Cursors(home.logs).all() if any(place.sent for place in cursor.logs.values())]


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / ".erasing.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another process erases somebody from {home}: wait until it ends.") from None
        yield
