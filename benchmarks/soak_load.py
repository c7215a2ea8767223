"""The client of the soak, in a process of its own: decisions at a steady rate, and impressions of what they show.

It notes whatever the server acknowledged, and everything that went wrong, with its moment. A request whose connection
ended before a byte of its answer came is sent once more, as any HTTP/1.1 client has to; it is noted as repeated.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

TICK = 0.002
PATIENCE = 10.0
"""Seconds after which a request without an answer has failed."""
BEHIND = 0.25
"""Seconds of requests that wait for a free connection; beyond this they are not sent."""
REPORTED = 5
"""Of so many decisions one has its impression reported."""


class Offer(msgspec.Struct):
    offer: str


class Answer(msgspec.Struct):
    decision_id: str
    surface: str
    offers: list[Offer]
    degraded: list[str]


class Asked(NamedTuple):
    path: bytes
    body: bytes
    user: str
    """Whose decision it is; an event's id."""
    attempt: int = 0


class Client:
    def __init__(self, words: argparse.Namespace) -> None:
        self._words = words
        self._bodies = words.bodies.read_bytes().splitlines()
        self._users = [json.loads(body)["user_id"] for body in self._bodies]
        self._head = b"".join(b"%s\r\n" % header.encode() for header in words.header)
        self._number = 0
        self._events = 0
        self._again: deque[Asked] = deque()
        self.idle: deque[Link] = deque()
        self.statuses: Counter[int] = Counter()
        self.degraded: Counter[str] = Counter()
        self.decisions: list[str] = []
        self.events: list[str] = []
        self.failed: list[tuple[float, str]] = []
        self.repeated: list[float] = []
        self.seconds: list[float] = []
        self.unsent = 0

    async def run(self) -> dict:
        words = self._words
        for _ in range(words.connections):
            await self.connect()
        started = last = time.monotonic()
        owed = 0.0
        while (now := time.monotonic()) - started < words.seconds:
            owed += (now - last) * words.rate if words.rate else words.connections
            last = now
            while owed >= 1.0 and self.idle:
                self.idle.popleft().ask(self.next())
                owed -= 1.0
            most = words.rate * BEHIND
            if owed > most:
                self.unsent, owed = self.unsent + int(owed - most) * bool(words.rate), most
            await asyncio.sleep(TICK if words.rate else 0)
        elapsed = time.monotonic() - started
        await asyncio.sleep(1.0)
        return self.told(elapsed)

    def told(self, elapsed: float) -> dict:
        waits = sorted(self.seconds)
        at = lambda share: round(1000 * waits[int(share * (len(waits) - 1))], 2)  # noqa: E731
        return {
            "requests": sum(self.statuses.values()), "per_second": len(waits) / elapsed, "statuses": self.statuses,
            "failed": self.failed, "repeated": self.repeated, "unsent": self.unsent, "degraded": self.degraded,
            "p50_ms": at(0.5), "p99_ms": at(0.99), "longest_ms": at(1.0),
            "decisions": self.decisions, "events": self.events,
        }  # fmt: skip

    def next(self) -> Asked:
        if self._again:
            return self._again.popleft()
        self._number += 1
        place = self._number % len(self._bodies)
        return Asked(b"/v1/decisions", self._bodies[place], self._users[place])

    def packed(self, asked: Asked) -> bytes:
        head = b"POST %s HTTP/1.1\r\nHost: soak\r\n%sContent-Length: %d\r\n\r\n"
        return head % (asked.path, self._head, len(asked.body)) + asked.body

    async def connect(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: Link(self), "127.0.0.1", self._words.port)
                return
            except OSError:
                await asyncio.sleep(0.02)

    def answered(self, asked: Asked, status: int, head: bytes, body: bytes, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 503 and b"retry-after" in head.lower():
            return
        if status != 200:
            self.failed.append((time.time(), f"{status} {body[:200]!r}"))
            return
        self.seconds.append(seconds)
        if asked.path == b"/v1/decisions":
            self._decided(asked.user, msgspec.json.decode(body, type=Answer))
        elif json.loads(body)["accepted"] == 1 and b"log:failed" not in body:
            self.events.append(asked.user)

    def _decided(self, user: str, answer: Answer) -> None:
        self.decisions.append(answer.decision_id)
        self.degraded.update(answer.degraded)
        if answer.offers and len(self.decisions) % REPORTED == 0:
            self._events += 1
            event = f"soak-{self._events}"
            told = {"event_id": event, "type": "impression", "decision_id": answer.decision_id, "user_id": user,
                    "offer": answer.offers[0].offer, "surface": answer.surface, "at": time.time()}  # fmt: skip
            self._again.append(Asked(b"/v1/events", json.dumps(told).encode(), event))

    def broke(self, asked: Asked, was_answering: bool, why: str) -> None:
        if was_answering or asked.attempt:
            self.failed.append((time.time(), why))
        else:
            self.repeated.append(time.time())
            self._again.append(asked._replace(attempt=1))


class Link(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: Asked | None = None
        self._found = b""
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._client.idle.append(self)

    def ask(self, asked: Asked) -> None:
        self._asked, self._found, self._started = asked, b"", time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._transport.abort)
        self._transport.write(self._client.packed(asked))

    def data_received(self, data: bytes) -> None:
        self._found += data
        head, end, body = self._found.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        asked, self._asked = self._asked, None
        self._timer.cancel()
        self._client.answered(asked, int(head[9:12]), head, body, time.monotonic() - self._started)
        if b"connection: close" in head.lower():
            self._transport.close()
        else:
            self._client.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._client.idle:
            self._client.idle.remove(self)
        if self._asked is not None:
            self._timer.cancel()
            waited = time.monotonic() - self._started
            self._client.broke(self._asked, bool(self._found), f"the connection ended after {waited:.2f} s ({error})")
        asyncio.get_running_loop().create_task(self._client.connect())


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--bodies", type=Path, required=True)
    words.add_argument("--seconds", type=float, required=True)
    words.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as many as there are answers")
    words.add_argument("--connections", type=int, default=32)
    words.add_argument("--header", action="append", default=[])
    words.add_argument("--out", type=Path, required=True)
    asked = words.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(Client(asked).run())
    asked.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
