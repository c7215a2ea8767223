"""From what the servers of an online store answered to Facts: each part by itself, so that none spoils another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from decisioning.domain import Facts, record
from features.schema import Schema
from stores.online.fresh import CORRUPT_FRESH, freshen, unpack_fresh
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


@record
class Found:
    """The answers about one user, or the exception that came in place of one."""

    version: Version | None
    packed: Any
    """The vector: bytes, or None for an unknown user."""
    history: Any
    """The events of the history: a list of bytes."""
    fresh: Any
    """Names and packed values in turns."""


@record
class Part:
    """One part of the facts, and what is wrong with it."""

    value: Any
    missing: frozenset[str] = frozenset()
    """Its own name where it could not be read."""
    degraded: tuple[str, ...] = ()


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
_NOT_KNOWN = Part({}, degraded=(UNKNOWN_USER,))
_NOT_PUBLISHED = Part({}, degraded=(UNPUBLISHED,))
_NO_HISTORY = Part(())
_NOTHING_NEWER = Part({})


def refuses_writes(error: object) -> bool:
    """Whether a server says that it takes no writes now, or not this one, while it may well be read."""
    if isinstance(error, OutOfMemoryError | ReadOnlyError | NoPermissionError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_NO_WRITES)


def is_damage(answer: object) -> bool:
    """Whether a server says that a key holds what Segue never wrote there: the server itself is well."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def facts(found: Found, killed: Part, budgets: Part, schema: Schema, own: str = "") -> Facts:
    """All that was found, and what is missing from it. Raises whatever nonsense from a server leads to.

    `killed` and `budgets` are `killed_part` and `budgets_part`, which many reads may share.
    """
    vector = _features(found, schema)
    past = _history(found.history, own)
    as_of = found.version.as_of if found.version else None
    features, history, newer = vector.value, past.value, _NOTHING_NEWER
    moments: Mapping[str, float] = {}
    if not vector.missing:  # values newer than what nobody knows can't be told
        newer = _fresh(found.fresh, schema)
        if newer.value or (history and schema.counting):
            features, moments = freshen(features, as_of, newer.value, schema.counting, history)
    return Facts(
        features,
        as_of if found.packed and not vector.degraded else None,
        history,
        budgets.value,
        killed.value,
        vector.missing | past.missing | killed.missing | budgets.missing,
        vector.degraded + past.degraded + killed.degraded + budgets.degraded + newer.degraded,
        moments,
    )


def killed_part(answer: Any) -> Part:
    """The offers switched off by hand. `answer`: a list of names. Raises TypeError for nonsense."""
    if isinstance(answer, list):
        return Part(frozenset([name.decode(errors="replace") for name in answer]))
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
    return Part(out, missing, tuple(dict.fromkeys(wrong)))


def _failed(answer: Any, name: str, corrupt: str, value: Any, loses: bool = False) -> Part:
    """A part of which there is no answer: it is down, or damaged. Damage `loses` it too where it must not be guessed.

    Raises TypeError for nonsense.
    """
    missing = frozenset({name})
    if is_damage(answer):
        return Part(value, missing if loses else _NOTHING, (corrupt,))
    if isinstance(answer, Exception):
        return Part(value, missing, (unread(name),))
    raise TypeError(f"the store answers {type(answer).__name__} for {name}")


def _features(found: Found, schema: Schema) -> Part:
    if isinstance(found.packed, bytes):
        features, wrong = unpack_vector(found.packed, schema)
        return Part(features, degraded=wrong)
    if found.packed is None:
        return _NOT_KNOWN if found.version else _NOT_PUBLISHED
    return _failed(found.packed, "features", CORRUPT, {})


def _history(answer: Any, own: str) -> Part:
    """A damaged one counts as unread: caps can't tell what is missing from it."""
    if not isinstance(answer, list):
        return _failed(answer, "history", CORRUPT_HISTORY, (), loses=True)
    if not answer:
        return _NO_HISTORY
    try:
        return Part(unpack_history(answer, own))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Part((), frozenset({"history"}), (CORRUPT_HISTORY,))


def _fresh(answer: Any, schema: Schema) -> Part:
    if answer == []:
        return _NOTHING_NEWER
    if isinstance(answer, list):
        found, damaged = unpack_fresh(zip(answer[::2], answer[1::2], strict=True), schema)
        return Part(found, degraded=(f"{CORRUPT_FRESH}:{damaged}",) if damaged else ())
    if isinstance(answer, Exception) and not is_damage(answer):
        return _NOTHING_NEWER  # it stands with the history, which says so
    return _failed(answer, "fresh", f"{CORRUPT_FRESH}:1", {})
