"""Many commands at once to a server or a cluster, each to the node that has its key; and a block as such commands.

redis-py packs and parses one command at a time, in Python; for millions of them that is most of the time.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import numpy as np
from redis import Redis
from redis.cluster import RedisCluster
from redis.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from stores.online.layout import FIELD_BYTES, buckets_of
from stores.online.reading import is_damage
from stores.publishing.port import Block

Command = tuple[bytes, bytes]
"""The key, and the whole command as it goes over the wire."""

AT_ONCE = 2_000
"""Commands that are sent before their answers are read. The server keeps those: it never waits for us to read."""
MOVING = (MovedError, AskError, TryAgainError, ClusterDownError)
RAISE = object()
WAITS = (0.05, 0.2, 1.0, 3.0)
"""Seconds between attempts while a cluster moves slots or elects a new primary."""


class Wire:
    """All commands sent here can be repeated without harm: while a cluster moves slots, they are."""

    def __init__(self, client: Redis | RedisCluster):
        self._client = client
        self._cluster = client if isinstance(client, RedisCluster) else None

    @property
    def servers(self) -> list[Redis]:
        """Each that holds keys: one client of the server, or of every primary of the cluster."""
        if self._cluster is None:
            return [self._client]
        return [self._cluster.get_redis_connection(node) for node in self._cluster.get_primaries()]

    def ask(
        self, commands: Iterable[Command], *, damaged: Any = RAISE, before: Callable[[], object] = lambda: None
    ) -> Iterator[Any]:
        """The answers, in order, as they are asked for. Raises RedisError for the first that is an error.

        `damaged` is the answer instead where a key holds something else than its command is for. `before` is called
        ahead of each lot that is sent: what it raises keeps the rest from being sent.
        """
        commands = iter(commands)
        while batch := list(islice(commands, AT_ONCE)):
            before()
            for answer in self._ask(batch):
                if isinstance(answer, ResponseError) and damaged is RAISE:
                    raise answer
                yield damaged if isinstance(answer, ResponseError) else answer

    def run(self, commands: Iterable[Command], *, before: Callable[[], object] = lambda: None) -> None:
        """`ask` for all of them, where nobody needs the answers."""
        deque(self.ask(commands, before=before), maxlen=0)

    def _ask(self, batch: list[Command]) -> list[Any]:
        if self._cluster is None:
            return self._once(batch)
        for wait in WAITS:
            try:
                return self._once(batch)
            except MOVING:
                time.sleep(wait)
                self._cluster.nodes_manager.initialize()
        return self._once(batch)

    def _once(self, batch: list[Command]) -> list[Any]:
        """To all nodes first, then from all: they work at the same time."""
        answers: list[Any] = [None] * len(batch)
        with ExitStack() as stack:
            sent = []
            for server, places in self._by_server(batch):
                connection = stack.enter_context(_connection(server))
                connection.send_packed_command([b"".join([batch[place][1] for place in places])])
                sent.append((connection, places))
            for connection, places in sent:
                for place in places:
                    answers[place] = _answer(connection)
        return answers

    def _by_server(self, batch: list[Command]) -> Iterator[tuple[Redis, Iterable[int]]]:
        if self._cluster is None:
            yield self._client, range(len(batch))
            return
        found = defaultdict(list)
        for place, (key, _) in enumerate(batch):
            found[self._cluster.nodes_manager.get_node_from_slot(key_slot(key)).name].append(place)
        for name, places in found.items():
            yield self._cluster.get_redis_connection(self._cluster.get_node(node_name=name)), places


@contextmanager
def _connection(server: Redis) -> Iterator[AbstractConnection]:
    """One of the pool's. After an error answers may still be under way: it is closed then."""
    connection = server.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        server.connection_pool.release(connection)


def _answer(connection: AbstractConnection) -> Any:
    """One answer. That a key is damaged says nothing of the others."""
    try:
        return connection.read_response()
    except ResponseError as error:
        if not is_damage(error):
            raise
        return error


def command(name: bytes, key: bytes, *words: bytes) -> Command:
    return key, b"*%d\r\n" % (2 + len(words)) + b"".join(map(_bulk, (name, key, *words)))


def hash_commands(block: Block, buckets: int, key_of: Callable[[int], bytes]) -> Iterator[Command]:
    """HSET for each bucket that a block has users of. All users are laid out as they go over the wire in one array."""
    numbers = buckets_of(block.fields, buckets)
    order = np.argsort(numbers, kind="stable")
    numbers, users = numbers[order], _on_the_wire(block, order)
    packed, width = memoryview(users).cast("B"), users.dtype.itemsize
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
    for number, first, last in zip(numbers[starts].tolist(), starts, [*starts[1:], len(order)], strict=True):
        key = key_of(number)
        head = b"*%d\r\n$4\r\nHSET\r\n%b" % (2 + 2 * (last - first), _bulk(key))
        yield key, head + packed[first * width : last * width]


def _on_the_wire(block: Block, order: np.ndarray) -> np.ndarray:
    """Field and vector of each user as two bulk strings, in a given order: one record of fixed length each."""
    size = block.vectors.shape[1]
    parts = {
        "a": b"$%d\r\n" % FIELD_BYTES,
        "field": FIELD_BYTES,
        "b": b"\r\n$%d\r\n" % size,
        "vector": size,
        "c": b"\r\n",
    }
    lengths = {name: part if isinstance(part, int) else len(part) for name, part in parts.items()}
    users = np.empty(len(order), [(name, f"V{length}") for name, length in lengths.items()])
    for name, part in parts.items():
        if isinstance(part, bytes):
            users[name] = np.void(part)
    users["field"] = np.frombuffer(b"".join(block.fields), f"V{FIELD_BYTES}")[order]
    users["vector"] = np.ascontiguousarray(block.vectors).view(f"V{size}")[:, 0][order]
    return users


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
