"""A load client that costs little: a plain uvloop protocol, run in a process of its own.

`serving_load.py --port P --bodies FILE --connections 16 --seconds 5` posts the lines of FILE in turn and prints one
line of JSON: requests a second, latencies, statuses, and the client's own share of a core. Closed loop: each connection
asks again once it was answered. `--open-loop RATE` sends so many a second whatever comes back; what no connection is
free for waits, and its latency counts from the moment it was due. With `--patience SECONDS` it waits no longer than
that, and is given up.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter, deque
from itertools import cycle
from pathlib import Path

import uvloop

USUAL = ("Accept: application/json", "User-Agent: shop-front/1.0")
IN_TIME = 0.1
"""Seconds within which a decision is of use."""
LONGEST = 30.0
"""Seconds after which a server that has not answered never will."""
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """One request at a time. An answer is over when as many bytes of body as its head says have come."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.due = 0.0
        self.got = b""
        self.wanted = -1
        """Bytes of the answer, its head included; -1 as long as the head is not complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.load.free(self)

    def ask(self, request: bytes, due: float) -> None:
        self.due, self.got, self.wanted = due, b"", -1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.got = got = self.got + data if self.got else data
        if self.wanted < 0:
            end = got.find(HEAD_END)
            if end < 0:
                return
            head = got[:end].lower()
            at = head.index(LENGTH) + len(LENGTH)
            self.wanted = end + len(HEAD_END) + int(head[at:].split(b"\r\n", 1)[0])
        if len(got) >= self.wanted:
            self.load.answered(got, time.perf_counter() - self.due)
            self.load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(self)


class Load:
    def __init__(self, requests: list[bytes], rate: float | None, patience: float, expect: bytes) -> None:
        self.requests = cycle(requests)
        self.rate, self.patience, self.expect = rate, patience, expect
        self.due = self.in_time = self.unexpected = 0
        self.waiting: deque[float] = deque()
        self.idle: list[Connection] = []
        self.open = False
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []
        self.bytes = 0
        self.last = b""

    def free(self, connection: Connection) -> None:
        if self.open and self.rate is None:
            connection.ask(next(self.requests), time.perf_counter())
            return
        while self.waiting and time.perf_counter() - self.waiting[0] > self.patience:
            self.waiting.popleft()
            self.counts["given up"] += 1
        if self.open and self.waiting:
            connection.ask(next(self.requests), self.waiting.popleft())
        else:
            self.idle.append(connection)

    def answered(self, answer: bytes, seconds: float) -> None:
        if self.open:
            self.counts[answer[9:12].decode()] += 1
            self.times.append(seconds)
            self.unexpected += self.expect not in answer
            self.in_time += seconds <= IN_TIME and answer[9:12] == b"200"
            self.bytes, self.last = self.bytes + len(answer), answer

    def lost(self, connection: Connection) -> None:
        if self.open:
            self.counts["lost"] += 1

    async def rest(self, connections: int) -> None:
        """Waits until what was sent is answered. Raises TimeoutError for a server that doesn't."""
        async with asyncio.timeout(LONGEST):
            while len(self.idle) < connections and self.rate is None:
                await asyncio.sleep(0.001)

    async def run(self, seconds: float) -> None:
        self.open = True
        started = time.perf_counter()
        if self.rate is None:
            idle, self.idle = self.idle, []
            for connection in idle:
                self.free(connection)
            await asyncio.sleep(seconds)
        else:
            await self._on_time(started, seconds)
        self.open = False
        self.seconds = time.perf_counter() - started

    async def _on_time(self, started: float, seconds: float) -> None:
        """Each request at its moment; a turn that comes late sends all that have fallen due."""
        sent = 0
        while (now := time.perf_counter() - started) < seconds:
            for number in range(sent, int(now * self.rate)):
                self.waiting.append(started + number / self.rate)
                sent = number + 1
                self.due += 1
                if self.idle:
                    self.free(self.idle.pop())
            await asyncio.sleep(0.001)


async def loaded(host: str, port: int, requests: list[bytes], connections: int, seconds: float, warm: float,
                 rate: float | None, patience: float, expect: bytes) -> dict:  # fmt: skip
    """What `seconds` of load gave, after `warm` seconds of the same that don't count."""
    loop = asyncio.get_running_loop()
    load = Load(requests, rate, patience, expect)
    protocols = [(await loop.create_connection(lambda: Connection(load), host, port))[1] for _ in range(connections)]
    await load.run(warm)
    await load.rest(connections)
    load.counts.clear()
    load.times.clear()
    load.waiting.clear()
    load.bytes = load.due = load.in_time = load.unexpected = 0
    before = time.process_time()
    mark = watched()
    await load.run(seconds)
    found = told(load, time.process_time() - before, watched() - mark)
    for connection in protocols:
        connection.transport.abort()
    return found


WATCHED: list[int] = []
"""Processes whose CPU time is read right before and right after the load."""


def watched() -> float:
    """User and system time of the watched processes and of all below them, as Linux tells; in seconds."""
    parents, times = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        one = int(stat.parent.name)
        parents[one], times[one] = int(fields[1]), sum(map(int, fields[11:15]))
    family, grew = set(WATCHED), True
    while grew:
        more = {one for one, parent in parents.items() if parent in family} - family
        family, grew = family | more, bool(more)
    return sum(times.get(one, 0) for one in family) / os.sysconf("SC_CLK_TCK")


def told(load: Load, own: float, theirs: float) -> dict:
    times = sorted(load.times) or [0.0]
    answers = max(1, len(load.times))  # `busy` is in cores
    return {
        "requests": len(load.times),
        "per_second": len(load.times) / load.seconds,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[min(len(times) - 1, len(times) * 99 // 100)] * 1e3,
        "max_ms": times[-1] * 1e3,
        "statuses": dict(load.counts),
        "unexpected": load.unexpected,
        "answer_bytes": load.bytes / answers,
        "cpu_us": theirs / answers * 1e6,
        "busy": theirs / load.seconds,
        "client_busy": own / load.seconds,
        "still_waiting": len(load.waiting),
        "due": load.due,
        "in_time": load.in_time,
        "last": load.last.decode("utf-8", "replace"),
    }


def requests_of(bodies: Path, host: str, path: str, headers: list[str]) -> list[bytes]:
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *USUAL, *headers]
    return [
        "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
        for body in bodies.read_bytes().splitlines()
    ]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--host", default="127.0.0.1")
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--path", default="/v1/decisions")
    words.add_argument("--bodies", type=Path, required=True, help="one request body a line")
    words.add_argument("--header", action="append", default=[], help='such as "Authorization: Bearer …"; repeatable')
    words.add_argument("--connections", type=int, default=16)
    words.add_argument("--seconds", type=float, default=5.0)
    words.add_argument("--warm", type=float, default=0.5, help="seconds of load before the counting begins")
    words.add_argument("--open-loop", type=float, metavar="RATE", help="requests a second, whatever is answered")
    words.add_argument("--patience", type=float, default=float("inf"), help="seconds that a request waits to be sent")
    words.add_argument("--expect", default="", help="what an answer should hold; others are counted")
    words.add_argument("--watch", type=int, action="append", default=[], help="a process whose CPU time to tell")
    chosen = words.parse_args()
    WATCHED.extend(chosen.watch)
    requests = requests_of(chosen.bodies, f"{chosen.host}:{chosen.port}", chosen.path, chosen.header)
    run = loaded(
        chosen.host, chosen.port, requests, chosen.connections, chosen.seconds, chosen.warm, chosen.open_loop,
        chosen.patience, chosen.expect.encode(),
    )  # fmt: skip
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run)), flush=True)


if __name__ == "__main__":
    main()
