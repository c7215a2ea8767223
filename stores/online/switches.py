"""Kill switches: offers turned off by hand, everywhere and at once, and the record of who did it and why.

The online store holds what is off now, and every decision reads it. The record is a file of lines that only grows.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from decisioning.errors import UserError
from features.schema import Schema
from stores.online.port import OnlineStore, StoreDown
from stores.online.redis_store import RedisStore

TIMEOUT = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flip:
    """An offer was turned off, or on again."""

    offer: str
    killed: bool
    who: str
    why: str
    at: float


def killed(url: str, namespace: str) -> frozenset[str]:
    """The offers that are off now. Raises UserError where the store can't be asked."""
    return _ask(url, namespace, _killed)


def flip(url: str, namespace: str, record: Path, what: Flip) -> bool:
    """Turns an offer off or on again, and then records it; False where it was so already, and nothing is recorded.

    Raises UserError where the store can't be reached (nothing has changed then), or the record can't be written (the
    switch is turned nonetheless).
    """

    async def turn(store: OnlineStore) -> bool:
        before = what.offer in await _killed(store)
        await (store.kill if what.killed else store.revive)(what.offer)
        return before != what.killed

    changed = _ask(url, namespace, turn)
    if changed:
        _append(record, what)
    return changed


def flips(record: Path) -> tuple[Flip, ...]:
    """What was recorded, oldest first. A torn last line is left out."""
    if not record.exists():
        return ()
    lines = record.read_bytes().splitlines(keepends=True)
    return tuple(msgspec.json.decode(line, type=Flip) for line in lines if line.endswith(b"\n"))


def _append(record: Path, what: Flip) -> None:
    line = msgspec.json.encode(what) + b"\n"
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        state = "off" if what.killed else "on again"
        raise UserError(f"{what.offer} is {state}, but {record} can't be written: {error.strerror}.") from error


async def _killed(store: OnlineStore) -> frozenset[str]:
    facts = await store.read("nobody", Schema(()))
    if "killed" in facts.unread:
        raise StoreDown(", ".join(facts.degraded))
    return facts.killed


def _ask(url: str, namespace: str, question: Callable[[OnlineStore], Awaitable[T]]) -> T:
    async def ask() -> T:
        store = RedisStore(url, timeout=TIMEOUT, namespace=namespace)
        try:
            return await question(store)
        finally:
            await store.close()

    try:
        return asyncio.run(ask())
    except StoreDown as error:
        raise UserError(f"The online store can't be asked ({error}), so no switch has moved: start it first.") from None
