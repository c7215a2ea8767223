"""Fresh values from a file that a stream job wrote: JSON lines, all checked before the first is stored.

Each line is `{"user_id": "user-42", "at": "2026-11-20T12:00:00Z", "values": {"sessions_7d": 9}}`. The same file again
changes nothing, so that whoever was interrupted just repeats it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from decisioning.catalog import FeatureType
from decisioning.domain import Value
from decisioning.errors import UserError
from decisioning.identity import user_key
from decisioning.yaml_nodes import did_you_mean
from features.schema import Schema
from stores.online.fresh import held
from stores.online.port import StoreDown
from stores.online.redis_store import RedisStore

FUTURE_BY = 300.0
"""Seconds by which the clock of the job may be ahead. A value of a later moment would win for ever."""
TOGETHER = 32
TIMEOUT = 5.0


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str
    at: datetime | float
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refreshed:
    users: int
    """Lines, of which several may be of one user."""
    values: int
    taken: int
    """Values that were later than what was known."""


_line = msgspec.json.Decoder(_Line)


def refresh_from(
    file: Path,
    url: str,
    namespace: str,
    schema: Schema,
    secret: bytes,
    now: float,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Refreshed:
    """Stores the values of a file at `url`. `now`: epoch seconds; `progress`: lines stored, and all.

    Raises UserError for a file with any mistake (and stores nothing), and for a store that is down (what was stored by
    then stays).
    """
    total = sum(1 for _ in _read(file, schema, now))
    if not total:
        raise UserError(f"{file} holds no values: nothing was stored.")

    async def store() -> Refreshed:
        target = RedisStore(url, timeout=TIMEOUT, namespace=namespace)
        lines, done, values, taken = _read(file, schema, now), 0, 0, 0
        try:
            while batch := list(islice(lines, TOGETHER)):
                asked = [target.refresh(user_key(secret, user), found, at) for user, at, found in batch]
                taken += sum(await asyncio.gather(*asked))
                done, values = done + len(batch), values + sum(len(found) for _, _, found in batch)
                progress(done, total)
        finally:
            await target.close()
        return Refreshed(done, values, taken)

    try:
        return asyncio.run(store())
    except StoreDown as error:
        raise UserError(
            f"The online store failed ({error}) before all values were stored: refresh again when it is up; "
            "what it has taken it doesn't take twice."
        ) from None


def _read(file: Path, schema: Schema, now: float) -> Iterator[tuple[str, float, Mapping[str, Value]]]:
    """User, moment and values of each line. Raises UserError with the number of the line that is wrong."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield _checked(_line.decode(line), schema, now)
                    except (msgspec.MsgspecError, ValueError) as error:
                        raise UserError(f"{file}, line {number}: {_sentence(error)} Nothing was stored.") from None
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from None


def _checked(line: _Line, schema: Schema, now: float) -> tuple[str, float, Mapping[str, Value]]:
    if isinstance(line.at, datetime) and line.at.tzinfo is None:
        raise ValueError("the time needs its zone, such as 2026-11-20T12:00:00Z")
    at = line.at.timestamp() if isinstance(line.at, datetime) else line.at
    if not isfinite(at) or at > now + FUTURE_BY:
        raise ValueError("the time is in the future: send RFC 3339 with its zone, or seconds (not milliseconds)")
    if not line.user_id:
        raise ValueError("user_id is empty")
    return line.user_id, at, {name: _value(name, value, schema) for name, value in line.values.items()}


def _value(name: str, value: Any, schema: Schema) -> Value:
    spec = schema.by_name.get(name)
    if spec is None:
        raise ValueError(f'the snapshot has no feature "{name}". {did_you_mean(name, schema.names)}'.rstrip())
    if spec.type is FeatureType.TIME and isinstance(value, str):
        moment = msgspec.convert(value, datetime)
        if moment.tzinfo is None:
            raise ValueError(f"{name} needs its zone, such as 2026-11-20T12:00:00Z")
        value = moment.timestamp()
    return held(spec, value)


def _sentence(error: Exception) -> str:
    said = str(error)
    return said if said.endswith((".", "?")) else f"{said}."
