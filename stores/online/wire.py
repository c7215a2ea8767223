"""Commands to an online store, many at a time, and an answer for each.

What an online store asks goes through a `Wire`: `stores.online.server` for a single server, `stores.online.cluster` for
many. It never raises: what went wrong with a command is that command's answer, so that the rest can be used.
"""

from collections.abc import Awaitable
from typing import Any, Protocol

from hiredis import Reader, pack_command

from stores.connect import address

Command = bytes
"""One command as it goes over the wire: `command` makes it, `words` reads it."""

command = pack_command
"""Packs the words of a command, given as a tuple of texts, bytes and numbers."""


class Wire(Protocol):
    @property
    def is_one_server(self) -> bool:
        """Whether a script may touch any keys together."""
        ...

    @property
    def has_others(self) -> bool:
        """Where a server fails: whether others may be well."""
        ...

    def ask(self, *commands: Command, due: float) -> Awaitable[list[Any]]:
        """The answer of each command, in their order: bytes, a number, None, a list of those, or the exception it met.

        They are on their way when this returns, whether it is awaited or not; those of one turn of the event loop go
        out together. What has not come by `due` (seconds of `time.monotonic`) is a TimeoutError, and what can't be sent
        now an OSError at once: nobody waits for a connection, but for the very first one.
        """
        ...

    async def close(self) -> None: ...


def wire(url: str, timeout: float) -> Wire:
    """The wire to a store. Raises UserError for an address that can't be read; nothing connects before it must.

    `timeout`: seconds for connecting, and for the silence of a server that was asked before it is taken to hang.
    """
    found = address(url)
    if found.is_cluster:
        from stores.online.cluster import Cluster  # only those who have one need it

        return Cluster(found, timeout)
    from stores.online.door import Door
    from stores.online.server import Server

    return Server(Door.of(found), timeout)


def words(packed: Command) -> list[bytes]:
    """The words of a command."""
    reader = Reader()
    reader.feed(packed)
    return reader.gets()
