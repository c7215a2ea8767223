"""A wire to a Redis or Valkey Cluster: each command goes to the node that has its slot, all nodes at once.

A node that does not answer costs its own slots and no others. Once it is known to be down nobody waits for it: its
commands fail at once, until it answers again or another node has taken its slots over, which is looked for every
`LOOK_EVERY` seconds, beside the requests. What moved while the cluster is being rearranged is followed one step.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from stores.connect import Address
from stores.online.wire import Command, Server

LOOK_EVERY = 0.2
HANGING_AFTER = 0.1
"""A node that answered nothing for so many seconds hangs, …"""
HANGING_ASKS = 3
"""… where it was asked at least so often meanwhile: one answer late may be our own doing."""

Place = tuple[str, int]
"""Host and port."""


class NodeDown(ConnectionError):
    """The node that has these slots is down."""


class Node(Server):
    """One server of a cluster, and whether it answers."""

    def __init__(self, place: Place, options: dict[str, Any], timeout: float) -> None:
        super().__init__({**options, "host": place[0], "port": place[1]}, timeout)
        self.place = place
        self.is_down = False
        self._silent_since: float | None = None
        self._silent = 0

    async def ask(self, *commands: Command) -> list[Any]:
        if self.is_down:
            return [NodeDown(f"{self.place[0]}:{self.place[1]} is down")] * len(commands)
        started = time.monotonic()
        try:
            answers = await super().ask(*commands)
        except asyncio.CancelledError:  # somebody's deadline passed
            self._note_silence(started)
            raise
        self.is_down = isinstance(answers[-1], Exception) and not isinstance(answers[-1], ResponseError)
        self._silent_since, self._silent = None, 0
        return answers

    async def answers(self) -> bool:
        """Whether it is well, asked again."""
        (said,) = await super().ask(("PING",))
        if said == b"PONG":
            self.is_down, self._silent_since, self._silent = False, None, 0
        return not self.is_down

    def _note_silence(self, since: float) -> None:
        self._silent += 1
        self._silent_since = since if self._silent_since is None else self._silent_since
        lasting = time.monotonic() - self._silent_since
        self.is_down = self._silent >= HANGING_ASKS and lasting >= HANGING_AFTER


class Cluster:
    """`found`: some of its nodes. `timeout`: seconds to wait for a connection, or a word."""

    is_one_server = False

    def __init__(self, found: Address, timeout: float) -> None:
        self._seeds, self._options, self._timeout = found.nodes, found.options(timeout), timeout
        self._nodes: dict[Place, Node] = {}
        self._owners: list[Node | None] = []
        """By slot; empty until the cluster has told."""
        self._has_gaps = False
        """Whether some slots had no owner then."""
        self._owning: set[Node] = set()
        self._looking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def has_others(self) -> bool:
        return any(not node.is_down for node in self._owning)

    async def ask(self, *commands: Command) -> list[Any]:
        try:
            if not self._owners:
                await self._look()
            owners = [self._owners[_slot(command)] for command in commands]
            answers = await _ask_each([(owner, (command,)) for owner, command in zip(owners, commands, strict=True)])
            moved = [n for n, answer in enumerate(answers) if isinstance(answer, AskError)]
            if moved:
                again = await _ask_each([self._follow(answers[n], owners[n], commands[n]) for n in moved])
                for n, answer in zip(moved, again, strict=True):
                    answers[n] = answer
            return answers
        except OSError as error:
            return [error] * len(commands)
        finally:
            self._watch()

    async def close(self) -> None:
        for task in (self._looking, self._watching):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        for node in self._nodes.values():
            await node.close()

    def _follow(self, moved: AskError, asked: Node | None, command: Command) -> tuple[Node, tuple[Command, ...]]:
        """Where a command has to be sent instead. A slot that moved for good is sent there from now on."""
        host = moved.host or (asked.place[0] if asked else self._seeds[0][0])
        node = self._node((host, moved.port))
        if not isinstance(moved, MovedError):
            return node, (("ASKING",), command)
        self._owners[moved.slot_id] = node
        self._look_soon()
        return node, (command,)

    def _node(self, place: Place) -> Node:
        if place not in self._nodes:
            self._nodes[place] = Node(place, self._options, self._timeout)
        return self._nodes[place]

    # --- Who has which slots

    async def _look(self) -> None:
        """Asks the cluster for its layout; of many callers at once one does. Raises ConnectionError."""
        await asyncio.shield(self._look_soon())

    def _look_soon(self) -> "asyncio.Task[None]":
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._learn())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())  # callers are told
        return self._looking

    async def _learn(self) -> None:
        known = [node for node in self._nodes.values() if not node.is_down]
        for node in (*known, *map(self._node, self._seeds)):
            (ranges,) = await node.ask(("CLUSTER", "SLOTS"))
            if isinstance(ranges, list) and ranges:
                await self._arrange(ranges, node)
                return
        raise ConnectionError(f"no node of the cluster tells its layout: {ranges}")

    async def _arrange(self, ranges: Sequence[Any], teller: Node) -> None:
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            node = self._node((host.decode() if host else teller.place[0], port))
            owners[first : last + 1] = [node] * (last - first + 1)
        self._owners, self._owning = owners, {node for node in owners if node}
        self._has_gaps = None in owners
        kept = {node.place for node in self._owning} | {*self._seeds}
        for place in self._nodes.keys() - kept:
            await self._nodes.pop(place).close()

    def _watch(self) -> None:
        if self._is_unwell() and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._until_well())

    async def _until_well(self) -> None:
        while self._is_unwell():
            await asyncio.sleep(LOOK_EVERY)
            down = [node for node in self._nodes.values() if node.is_down]
            with suppress(Exception):
                await asyncio.gather(*(node.answers() for node in down), self._look())

    def _is_unwell(self) -> bool:
        return self._has_gaps or any(node.is_down for node in self._nodes.values())


async def _ask_each(asked: Sequence[tuple[Node | None, tuple[Command, ...]]]) -> list[Any]:
    """The last answer of each group of commands. Each node gets all of its commands in one write."""
    by_node: dict[Node | None, list[int]] = {}
    for number, (node, _) in enumerate(asked):
        by_node.setdefault(node, []).append(number)
    found: list[Any] = [None] * len(asked)

    async def ask(node: Node | None, numbers: list[int]) -> None:
        answers = await _ask(node, [command for number in numbers for command in asked[number][1]])
        for number in numbers:
            group, answers = answers[: len(asked[number][1])], answers[len(asked[number][1]) :]
            found[number] = group[-1]

    if len(by_node) == 1:
        (only,) = by_node.items()
        await ask(*only)
    else:
        await asyncio.gather(*(ask(node, numbers) for node, numbers in by_node.items()))
    return found


async def _ask(node: Node | None, commands: list[Command]) -> list[Any]:
    if node is None:
        return [ClusterDownError("no node has this slot")] * len(commands)
    return await node.ask(*commands)


def _slot(command: Command) -> int:
    key = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
    return key_slot(key.encode() if isinstance(key, str) else key)
