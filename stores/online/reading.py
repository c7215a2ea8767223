"""From what the servers of an online store answered to Facts: each part by itself, so that none spoils another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from decisioning.domain import Facts, record
from features.schema import TAG_BYTES, Schema
from stores.online.fresh import CORRUPT_FRESH, freshen, unpack_fresh
from stores.online.layout import Version, unpack_history
from stores.online.port import (
    CORRUPT,
    CORRUPT_BUDGET,
    CORRUPT_HISTORY,
    CORRUPT_KILLED,
    OTHER_SCHEMA,
    UNKNOWN_USER,
    UNPUBLISHED,
    unread,
)

Part = tuple[Any, frozenset[str], tuple[str, ...]]
"""One part of the facts: its value, its own name where it could not be read, and what is wrong with it."""


@record
class Shared:
    """What the facts of many reads have in common."""

    killed: frozenset[str]
    budgets: Mapping[str, int]
    missing: frozenset[str]
    degraded: tuple[str, ...]


_NO_WRITES = (
    "OOM ",
    "READONLY ",
    "MISCONF ",
    "NOREPLICAS ",
    "NOPERM ",
    "ACL failure in script",
    "ERR ACL failure in script",
)
_NOTHING: frozenset[str] = frozenset()
_NO_HISTORY: Part = ((), _NOTHING, ())
_NOTHING_NEWER: Part = ({}, _NOTHING, ())


def refuses_writes(error: object) -> bool:
    """Whether a server says that it takes no writes now, or not this one, while it may well be read."""
    if isinstance(error, OutOfMemoryError | ReadOnlyError | NoPermissionError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_NO_WRITES)


def is_damage(answer: object) -> bool:
    """Whether a server says that a key holds what Segue never wrote there: the server itself is well."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def facts(
    version: Version | None, packed: Any, history: Any, fresh: Any, shared: Shared, schema: Schema, own: str = ""
) -> Facts:
    """All that was found, and what is missing from it. Raises whatever nonsense from a server leads to.

    What was answered about one user, or the exception that came in place of it: `packed`, the vector as bytes, or None
    for an unknown user; `history`, its events as a list of bytes; `fresh`, names and packed values in turns.
    """
    as_of = version.as_of if version else None
    if isinstance(packed, bytes) and packed.startswith(schema.tag):
        missing, wrong = _NOTHING, ()
        try:
            features = schema.unpack(packed, TAG_BYTES)
        except (ValueError, IndexError):
            features, wrong = {}, (CORRUPT,)
    else:
        features, missing, wrong = _no_features(packed, version)
    past, lost, damage = _history(history, own)
    newer, _, spoilt = _NOTHING_NEWER
    moments: Mapping[str, float] = {}
    if not missing:  # values newer than what nobody knows can't be told
        if fresh != []:
            newer, _, spoilt = _fresh(fresh, schema)
        if newer or (past and schema.counting):
            features, moments = freshen(features, as_of, newer, schema.counting, past)
    return Facts(
        features,
        as_of if packed and not wrong else None,
        past,
        shared.budgets,
        shared.killed,
        missing | lost | shared.missing,
        wrong + damage + shared.degraded + spoilt,
        moments,
    )


def shared(killed: Part, budgets: Part) -> Shared:
    """Of `killed_part` and `budgets_part`."""
    return Shared(killed[0], budgets[0], killed[1] | budgets[1], killed[2] + budgets[2])


def killed_part(answer: Any) -> Part:
    """The offers switched off by hand. `answer`: a list of names. Raises TypeError for nonsense."""
    if isinstance(answer, list):
        return frozenset([name.decode(errors="replace") for name in answer]), _NOTHING, ()
    return _failed(answer, "killed", CORRUPT_KILLED, frozenset(), loses=True)


def budgets_part(names: Sequence[str], counted: Iterable[Any]) -> Part:
    """The units that are out of each budget: one that could not be read is absent, and counts as closed.

    `counted`: for each of `names`, the units spent and those on lease, in turns. Raises TypeError for nonsense.
    """
    out: dict[str, int] = {}
    wrong: list[str] = []
    turns = iter(counted)
    for name, spent, leases in zip(names, turns, turns, strict=True):
        try:
            out[name] = int(spent or 0) + int(leases)
        except (TypeError, ValueError):
            failed = next((one for one in (spent, leases) if isinstance(one, Exception)), spent)
            if not isinstance(failed, Exception | bytes):
                raise
            is_down = isinstance(failed, Exception) and not is_damage(failed)
            wrong.append(unread("budgets") if is_down else CORRUPT_BUDGET)
    missing = frozenset({"budgets"}) if unread("budgets") in wrong else _NOTHING
    return out, missing, tuple(dict.fromkeys(wrong))


def _failed(answer: Any, name: str, corrupt: str, value: Any, loses: bool = False) -> Part:
    """A part of which there is no answer: it is down, or damaged. Damage `loses` it too where it must not be guessed.

    Raises TypeError for nonsense.
    """
    missing = frozenset({name})
    if is_damage(answer):
        return value, missing if loses else _NOTHING, (corrupt,)
    if isinstance(answer, Exception):
        return value, missing, (unread(name),)
    raise TypeError(f"the store answers {type(answer).__name__} for {name}")


def _no_features(answer: Any, version: Version | None) -> Part:
    if isinstance(answer, bytes):
        return {}, _NOTHING, (OTHER_SCHEMA,)
    if answer is None:
        return {}, _NOTHING, (UNKNOWN_USER if version else UNPUBLISHED,)
    return _failed(answer, "features", CORRUPT, {})


def _history(answer: Any, own: str) -> Part:
    """A damaged one counts as unread: caps can't tell what is missing from it."""
    if not isinstance(answer, list):
        return _failed(answer, "history", CORRUPT_HISTORY, (), loses=True)
    if not answer:
        return _NO_HISTORY
    try:
        return unpack_history(answer, own), _NOTHING, ()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return (), frozenset({"history"}), (CORRUPT_HISTORY,)


def _fresh(answer: Any, schema: Schema) -> Part:
    if isinstance(answer, list):
        found, damaged = unpack_fresh(zip(answer[::2], answer[1::2], strict=True), schema)
        return found, _NOTHING, (f"{CORRUPT_FRESH}:{damaged}",) if damaged else ()
    if isinstance(answer, Exception) and not is_damage(answer):
        return _NOTHING_NEWER  # it stands with the history, which says so
    return _failed(answer, "fresh", f"{CORRUPT_FRESH}:1", {})
