"""How one server is entered: where it is, by TLS or not, and what is said before the first question.

redis-py reads the address, so that all of its options mean here what they mean there.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.connection import Connection as TcpConnection
from redis.exceptions import AuthenticationError, RedisError

from decisioning.errors import UserError
from stores.connect import Address
from stores.online.asked import Asked
from stores.online.connection import Connection
from stores.online.wire import Command, command

FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""Options that name a file or a folder."""


@dataclass(frozen=True, slots=True)
class Door:
    host: str
    port: int
    path: str = ""
    """Of a Unix socket; empty where host and port count."""
    tls: ssl.SSLContext | None = None
    greeting: tuple[Command, ...] = field(default=(), repr=False)
    """Holds the password: never show it."""

    @classmethod
    def of(cls, found: Address) -> "Door":
        """The door of the first server named. Raises UserError for options that make no sense, or name no file."""
        options = found.options(timeout=1.0)
        made = options.pop("connection_class", TcpConnection)
        try:
            described = made(**options)
            tls = described.ssl_context.get() if hasattr(described, "ssl_context") else None
        except (TypeError, ValueError, RedisError, OSError) as error:
            why = f"{_unreadable(options)} can't be read: {error}" if isinstance(error, OSError) else error
            raise UserError(
                f"The options of the store's address don't work ({why}): correct what follows its ?."
            ) from None
        host, port, path = (getattr(described, name, None) for name in ("host", "port", "path"))
        return cls(host or "", port or 0, path or "", tls, _greeting(described))

    def at(self, host: str, port: int) -> "Door":
        """The same on another host: a node of a cluster."""
        return replace(self, host=host, port=port)

    async def enter(self, timeout: float, on_lost: Callable[[Exception], None]) -> Connection:
        """A connection that answers. Raises what keeps us out; ConnectionError after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        inside = Connection(on_lost)
        try:
            async with asyncio.timeout(timeout):
                if self.path:
                    await loop.create_unix_connection(lambda: inside, self.path)
                else:
                    await loop.create_connection(lambda: inside, self.host, self.port, ssl=self.tls)
                await self._greet(inside, timeout)
        except BaseException as error:
            inside.close(ConnectionAbortedError("given up"))
            if isinstance(error, TimeoutError):
                raise ConnectionError(f"nobody answered within {timeout} s of connecting") from None
            raise
        return inside

    async def _greet(self, inside: Connection, timeout: float) -> None:
        loop, greeting = asyncio.get_running_loop(), self.greeting
        asked = Asked(loop, b"".join(greeting), len(greeting), monotonic() + timeout)
        inside.send([asked])
        *said, pong = await asked
        if inside.lost is not None:
            raise inside.lost
        for answer in said:
            if isinstance(answer, Exception):
                raise answer
        if isinstance(pong, AuthenticationError):  # anything else means that it answers: it may be loading its data
            raise pong


def _unreadable(options: dict[str, Any]) -> str:
    """Which certificates or keys that the options name are no files that we can read."""
    named = {name: options[name] for name in FILES if options.get(name)}
    wrong = [f"{name}={file}" for name, file in named.items() if not os.access(file, os.R_OK)]
    return ", ".join(wrong) or "a certificate or key that they name"


def _greeting(described: AbstractConnection) -> tuple[Command, ...]:
    """Ends with a PING: a server that hangs takes connections, and never says a word."""
    said: list[tuple[Any, ...]] = []
    if described.username:
        said.append(("AUTH", described.username, described.password or ""))
    elif described.password:
        said.append(("AUTH", described.password))
    if described.client_name:
        said.append(("CLIENT", "SETNAME", described.client_name))
    if described.db:
        said.append(("SELECT", described.db))
    return tuple(map(command, [*said, ("PING",)]))
