"""From what the servers of an online store answered to Facts: each part by itself, so that none spoils another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from decisioning.domain import Facts, HistoryEvent, Value
from features.schema import Schema
from stores.online.fresh import CORRUPT_FRESH, Fresh, freshen, unpack_fresh
from stores.online.layout import Version, unpack_history, unpack_vector
from stores.online.port import (
    CORRUPT,
    CORRUPT_BUDGET,
    CORRUPT_HISTORY,
    CORRUPT_KILLED,
    UNKNOWN_USER,
    UNPUBLISHED,
    unread,
)


@dataclass(frozen=True, slots=True)
class Found:
    """The answers to one read, or the exception that came in place of one."""

    version: Version | None
    packed: Any
    """The vector: bytes, or None for an unknown user."""
    history: Any
    """The events of the history: a list of bytes."""
    fresh: Any
    """Names and packed values in turns."""
    killed: Any
    """Names of offers."""
    budgets: Sequence[str]
    counted: Sequence[Any]
    """For each of them, the units spent and those on lease, in turns."""


_NO_WRITES = (
    "OOM ",
    "READONLY ",
    "MISCONF ",
    "NOREPLICAS ",
    "NOPERM ",
    "ACL failure in script",
    "ERR ACL failure in script",
)


def refuses_writes(error: object) -> bool:
    """Whether a server says that it takes no writes now, or not this one, while it may well be read."""
    if isinstance(error, OutOfMemoryError | ReadOnlyError | NoPermissionError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_NO_WRITES)


def is_damage(answer: object) -> bool:
    """Whether a server says that a key holds what Segue never wrote there: the server itself is well."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def facts(found: Found, schema: Schema, own: str = "") -> Facts:
    """All that was found, and what is missing from it. Raises whatever nonsense from a server leads to."""
    parts = _Parts()
    features = parts.features(found, schema)
    history = parts.history(found.history, own)
    killed = parts.killed(found.killed)
    budgets = parts.budgets(found)
    fresh: dict[str, float] = {}
    if "features" not in parts.missing:  # those newer than what nobody knows can't be told
        newer = parts.fresh(found.fresh, schema)
        as_of = found.version.as_of if found.version else None
        features, fresh = freshen(features, as_of, newer, schema.counting, history)
    return Facts(
        features=features,
        as_of=found.version.as_of if found.version and parts.has_vector else None,
        history=history,
        budgets=budgets,
        killed=killed,
        unread=frozenset(parts.missing),
        degraded=tuple(parts.degraded),
        fresh=fresh,
    )


class _Parts:
    """What each part comes to, and what is wrong with it."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.degraded: list[str] = []
        self.has_vector = False

    def held(self, answer: Any, shape: type, part: str, corrupt: str) -> Any:
        """An answer that is one; else None, and the part is either down or damaged. Raises TypeError for nonsense."""
        if isinstance(answer, shape):
            return answer
        if is_damage(answer):
            self.degraded.append(corrupt)
        elif isinstance(answer, Exception):
            self.missing.add(part)
            self.degraded.append(unread(part))
        else:
            raise TypeError(f"the store answers {type(answer).__name__} for {part}")
        return None

    def features(self, found: Found, schema: Schema) -> Mapping[str, Value]:
        if found.packed is None:
            self.degraded.append(UNPUBLISHED if found.version is None else UNKNOWN_USER)
            return {}
        packed = self.held(found.packed, bytes, "features", CORRUPT)
        if packed is None:
            return {}
        features, wrong = unpack_vector(packed, schema)
        self.degraded += wrong
        self.has_vector = not wrong
        return features

    def history(self, answer: Any, own: str) -> tuple[HistoryEvent, ...]:
        """A damaged one counts as unread: caps can't tell what is missing from it."""
        packed = self.held(answer, list, "history", CORRUPT_HISTORY)
        try:
            if packed is not None:
                return unpack_history(packed, own)
            self.missing.add("history")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.missing.add("history")
            self.degraded.append(CORRUPT_HISTORY)
        return ()

    def killed(self, answer: Any) -> frozenset[str]:
        names = self.held(answer, list, "killed", CORRUPT_KILLED)
        if names is None:
            self.missing.add("killed")
        return frozenset(name.decode(errors="replace") for name in names or ())

    def fresh(self, answer: Any, schema: Schema) -> Fresh:
        if isinstance(answer, Exception) and not is_damage(answer):
            return {}  # it stands with the history, which says so
        flat = self.held(answer, list, "fresh", f"{CORRUPT_FRESH}:1") or []
        if not flat:
            return {}
        found, damaged = unpack_fresh(zip(flat[::2], flat[1::2], strict=True), schema)
        if damaged:
            self.degraded.append(f"{CORRUPT_FRESH}:{damaged}")
        return found

    def budgets(self, found: Found) -> dict[str, int]:
        """Those that could be read: one that is absent counts as closed."""
        out: dict[str, int] = {}
        wrong: list[str] = []
        for name, spent, leases in zip(found.budgets, found.counted[::2], found.counted[1::2], strict=True):
            try:
                out[name] = int(spent or 0) + int(leases)
            except (TypeError, ValueError):
                failed = next((one for one in (spent, leases) if isinstance(one, Exception)), spent)
                if not isinstance(failed, Exception | bytes):
                    raise
                is_down = isinstance(failed, Exception) and not is_damage(failed)
                wrong.append(unread("budgets") if is_down else CORRUPT_BUDGET)
        self.missing |= {"budgets"} if unread("budgets") in wrong else set()
        self.degraded += dict.fromkeys(wrong)
        return out
