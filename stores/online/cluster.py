"""A wire to a Redis or Valkey Cluster: each command goes to the node that has its slot, all nodes at once.

A node that does not answer costs its own slots and no others. Once it is known to be down nobody waits for it: its
commands fail at once, until it answers again or another node has taken its slots over, which is looked for every
`LOOK_EVERY` seconds, beside the requests. What moved while the cluster is being rearranged is followed one step.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from stores.connect import Address
from stores.online.asked import Asked
from stores.online.door import Door
from stores.online.server import Server
from stores.online.wire import Command, command, words

LOOK_EVERY = 0.2
LAYOUT = command(("CLUSTER", "SLOTS"))
ASKING = command(("ASKING",))

Place = tuple[str, int]
"""Host and port."""
Sent = list[tuple[list[int], Asked]]
"""Which commands went to one node, and the answers to come."""


class Node(Server):
    """One server of a cluster."""

    def __init__(self, place: Place, door: Door, timeout: float) -> None:
        super().__init__(door.at(*place), timeout)
        self.place = place


class Cluster:
    """`found`: some of its nodes. `timeout`: as for a `Server`."""

    is_one_server = False

    def __init__(self, found: Address, timeout: float) -> None:
        self._seeds, self._door, self._timeout = found.nodes, Door.of(found), timeout
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

    def ask(self, *commands: Command, due: float) -> Coroutine[Any, Any, list[Any]]:
        sent = self._send(commands, due) if self._owners else None
        return self._answers(commands, due, sent)

    async def close(self) -> None:
        for task in (self._looking, self._watching):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        for node in self._nodes.values():
            await node.close()

    # --- One question

    def _send(self, commands: Sequence[Command], due: float) -> Sent:
        """Each node gets all of its commands at once."""
        by_node: dict[Node | None, list[int]] = {}
        for number, one in enumerate(commands):
            by_node.setdefault(self._owners[_slot(one)], []).append(number)
        return [
            (numbers, _ask(node, [commands[number] for number in numbers], due)) for node, numbers in by_node.items()
        ]

    async def _answers(self, commands: Sequence[Command], due: float, sent: Sent | None) -> list[Any]:
        """Whoever gives up here leaves answers behind that nobody looks at."""
        try:
            if sent is None:
                await self._look(due)
                sent = self._send(commands, due)
            found: list[Any] = [None] * len(commands)
            for numbers, answers in sent:
                for number, answer in zip(numbers, await answers, strict=True):
                    found[number] = answer
            moved = [number for number, answer in enumerate(found) if isinstance(answer, AskError)]
            again = [self._follow(found[number], commands[number], due) for number in moved]
            for number, answers in zip(moved, again, strict=True):
                found[number] = (await answers)[-1]
            return found
        except OSError as error:
            return [error] * len(commands)
        finally:
            self._watch()

    def _follow(self, moved: AskError, one: Command, due: float) -> Asked:
        """Asks where a command has to be sent instead. A slot that moved for good is sent there from now on."""
        asked = self._owners[moved.slot_id]
        node = self._node((moved.host or (asked.place[0] if asked else self._seeds[0][0]), moved.port))
        if not isinstance(moved, MovedError):
            return node.ask(ASKING, one, due=due)
        self._owners[moved.slot_id] = node
        self._look_soon()
        return node.ask(one, due=due)

    def _node(self, place: Place) -> Node:
        if place not in self._nodes:
            self._nodes[place] = Node(place, self._door, self._timeout)
        return self._nodes[place]

    # --- Who has which slots

    async def _look(self, due: float) -> None:
        """Asks the cluster for its layout; of many callers at once one does. Raises OSError, TimeoutError too."""
        looking = self._look_soon()
        done, _ = await asyncio.wait({looking}, timeout=due - monotonic())
        if not done:
            raise TimeoutError("the cluster has not told its layout in time")
        looking.result()

    def _look_soon(self) -> "asyncio.Task[None]":
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._learn())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())  # callers are told
        return self._looking

    async def _learn(self) -> None:
        known = [node for node in self._nodes.values() if not node.is_down]
        for node in (*known, *map(self._node, self._seeds)):
            (ranges,) = await node.ask(LAYOUT, due=monotonic() + self._timeout)
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
            with suppress(OSError):
                await self._look(monotonic() + self._timeout)

    def _is_unwell(self) -> bool:
        return self._has_gaps or any(node.is_down for node in self._nodes.values())


def _ask(node: Node | None, commands: Sequence[Command], due: float) -> Asked:
    if node is not None:
        return node.ask(*commands, due=due)
    unowned = Asked(asyncio.get_running_loop(), b"", len(commands), due)
    unowned.fail(ClusterDownError("no node has this slot"))
    return unowned


def _slot(one: Command) -> int:
    """Of its first key: the word after the name; the fourth word for EVALSHA and EVAL."""
    said = words(one)
    return key_slot(said[3] if said[0] in (b"EVALSHA", b"EVAL") else said[1])
