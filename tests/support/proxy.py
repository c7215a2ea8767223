"""A TCP proxy with faults, in a process of its own: between a server and its store, switched at run time.

    with proxy(upstream_url) as between:
        …REDIS_URL = between.url…
        with between.fault("slow", seconds=0.1, share=0.1): …

What comes back from the store is what suffers:

    slow      arrives `seconds` later, a `share` of the chunks (1.0: all); the order of a connection is kept
    garble    other bytes arrive in its place
    cut       half of a chunk arrives, then the connection ends
    reset     connections are reset, new ones as soon as they are made
    refuse    connections are reset, new ones refused
    swallow   connections are made, and nothing ever arrives on either end
"""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """The test's end: `url` in place of the store's."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"redis://{HOST}:{self.tell()['port']}"

    def tell(self, **order: object) -> dict:
        """Gives an order (none: nothing changes), and returns what the proxy counted."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    @property
    def connects(self) -> int:
        """Connections that were made or tried and reset; those that were refused nobody sees."""
        return self.tell()["connects"]

    def point(self, upstream: str) -> None:
        """Another store from now on, as an address moves in a failover: connections to the old one are reset."""
        self.tell(upstream=upstream)

    @contextmanager
    def fault(self, kind: str, **more: float) -> Iterator[None]:
        self.tell(fault=kind, **more)
        try:
            yield
        finally:
            self.tell(fault="")


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    process = subprocess.Popen([sys.executable, __file__, upstream], stdin=-1, stdout=-1, text=True)
    try:
        yield Proxy(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class Middle:
    """The process: what it does now, and who is connected."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.fault, self.seconds, self.share = upstream, "", 0.0, 1.0
        self.connects = 0
        self.random = Random(1)
        self.links: set[Link] = set()
        self._server: asyncio.Server | None = None
        # Holds the port while nobody listens at it: then connections are refused, and nobody else can take it.
        self._place = _bound(0)
        self.port = self._place.getsockname()[1]

    async def obey(self, order: dict) -> dict:
        self.upstream = order.get("upstream", self.upstream)
        self.fault = order.get("fault", self.fault)
        self.seconds, self.share = order.get("seconds", self.seconds), order.get("share", self.share)
        if "upstream" in order or self.fault in ("reset", "refuse"):
            for link in list(self.links):
                link.reset()
        await self.listen(self.fault != "refuse")
        return {"port": self.port, "connects": self.connects}

    async def listen(self, wanted: bool) -> None:
        if wanted and self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Link(self), sock=_bound(self.port))
        elif not wanted and self._server is not None:
            self._server.close()
            self._server = None


class Link(asyncio.Protocol):
    """One connection of a client, and its own one to the store."""

    def __init__(self, middle: Middle) -> None:
        self._middle, self._loop = middle, asyncio.get_running_loop()
        self._early: list[bytes] = []
        self._late: deque[tuple[float, bytes]] = deque()
        self._store: asyncio.Transport | None = None
        self._client: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = transport
        self._middle.connects += 1
        if self._middle.fault == "reset":
            return self.reset()
        self._middle.links.add(self)
        self._connecting = self._loop.create_task(self._connect())
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._middle.links.discard(self)
        if self._store is not None:
            self._store.abort()

    def data_received(self, data: bytes) -> None:
        if self._middle.fault == "swallow":
            return
        if self._store is None:
            self._early.append(data)
        else:
            self._store.write(data)

    def answered(self, data: bytes) -> None:
        middle = self._middle
        if middle.fault == "swallow":
            return
        if middle.fault == "garble":
            data = middle.random.randbytes(len(data))
        if middle.fault == "cut":
            if not self._late:  # else it would arrive before what came earlier
                self._client.write(data[: len(data) // 2])
            self._late.clear()
            self._client.close()
            return
        is_slow = middle.fault == "slow" and middle.random.random() < middle.share
        self._send_at(self._loop.time() + (middle.seconds if is_slow else 0.0), data)

    def reset(self) -> None:
        if self._client.is_closing():
            return
        self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._client.abort()

    def _send_at(self, due: float, data: bytes) -> None:
        """Never before what came earlier."""
        if self._late:
            due = max(due, self._late[-1][0])
        elif due <= self._loop.time():
            self._client.write(data)
            return
        self._late.append((due, data))
        self._loop.call_at(due, self._send_due)

    def _send_due(self) -> None:
        if self._late:
            self._client.write(self._late.popleft()[1])

    async def _connect(self) -> None:
        try:
            self._store, _ = await _open(self._middle.upstream, lambda: Upstream(self))
        except OSError:
            self.reset()
            return
        for data in self._early:
            self._store.write(data)


class Upstream(asyncio.Protocol):
    def __init__(self, link: Link) -> None:
        self._link = link

    def data_received(self, data: bytes) -> None:
        self._link.answered(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.reset()


def _bound(port: int) -> socket.socket:
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so asyncio sends without delay
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind((HOST, port))
    return place


async def _open(url: str, factory) -> tuple[asyncio.Transport, asyncio.Protocol]:
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    if parts.scheme == "unix":
        return await loop.create_unix_connection(factory, unquote(parts.path))
    return await loop.create_connection(factory, parts.hostname, parts.port)


async def _main(upstream: str) -> None:
    middle = Middle(upstream)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await middle.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_main(sys.argv[1]))
