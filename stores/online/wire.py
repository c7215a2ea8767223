"""Commands to one server, many at a time: one write, one read, and an answer for each.

What an online store asks goes through a `Wire`: this one for a single server, `stores.online.cluster` for many. It
never raises: what went wrong with a command is that command's answer, so that the rest can be used.
"""

from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool
from redis.exceptions import ResponseError

from stores.connect import Address, address

CONNECTIONS = 32
"""At most so many per server and process; who needs one more waits."""

Command = tuple[str | bytes | int | float, ...]
"""The words of one command. Its first key is the word after the name; the fourth word for `EVALSHA` and `EVAL`."""


class Wire(Protocol):
    @property
    def is_one_server(self) -> bool:
        """Whether a script may touch any keys together."""
        ...

    @property
    def has_others(self) -> bool:
        """Where a server fails: whether others may be well."""
        ...

    async def ask(self, *commands: Command) -> list[Any]:
        """The answer of each command, in their order, as redis-py's parser gives it, or the exception it met."""
        ...

    async def close(self) -> None: ...


def wire(url: str, timeout: float) -> Wire:
    """The wire to a store. Raises UserError for an address that can't be read; nothing connects before it must."""
    found = address(url)
    if found.is_cluster:
        from stores.online.cluster import Cluster  # only those who have one need it

        return Cluster(found, timeout)
    return Server.at(found, timeout)


class Server:
    """`options`: what a connection takes (`Address.options`). `timeout`: seconds to wait for a connection or a word."""

    is_one_server = True
    has_others = False

    def __init__(self, options: dict[str, Any], timeout: float) -> None:
        self._pool = BlockingConnectionPool(max_connections=CONNECTIONS, timeout=timeout, **options)

    @classmethod
    def at(cls, found: Address, timeout: float) -> "Server":
        return cls(found.options(timeout), timeout)

    async def ask(self, *commands: Command) -> list[Any]:
        try:
            connection = await self._pool.get_connection()
        except Exception as error:  # noqa: BLE001  whatever keeps us from connecting
            return [error] * len(commands)
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _answer(connection) for _ in commands]
        except BaseException as error:  # cancelled ones too: what is still to come must not answer another question
            await connection.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            return [error] * len(commands)
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        await self._pool.aclose()


async def _answer(connection: Any) -> Any:
    """One answer. That a server refuses one command says nothing of the others."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
