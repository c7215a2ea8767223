"""The least that a Python process can do for a decision: take the request, read its user from Redis, answer something.

`floor.py --port P --shop FOLDER --redis redis://HOST:PORT`. No framework and no client library: a uvloop protocol that
looks for the end of the head and for `"user_id"`, one connection to the store that all requests share, the very keys
that Segue reads for a decision, hiredis to parse them, and a constant body as long as Segue's answer. It decides,
checks and logs nothing.
"""

import argparse
import asyncio
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import hiredis
import uvloop
from redis import Redis

from benchmarks.workload import SURFACE
from decisioning.identity import user_key
from stores.home import Home
from stores.online.layout import Keys, Pointer, bucket_of, field_of
from stores.online.units import Ledger
from stores.releases import ReleaseStore

ANSWER_BYTES = 337
BODY = b'{"decision_id":"' + b"0" * (ANSWER_BYTES - 18) + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
OWN = (
    b"*2\r\n$5\r\nHVALS\r\n$%d\r\n%b\r\n*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n"
    b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$16\r\n%b\r\n"
)
ID = b'"user_id":"'


class Store(asyncio.Protocol):
    """Pipelined: answers come in the order of the questions."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[tuple[Client, int]] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        gets, waiting = self.reader.gets, self.waiting
        while waiting:
            client, left = waiting[0]
            while left:
                if gets() is False:
                    waiting[0] = (client, left)
                    return
                left -= 1
            waiting.popleft()
            client.transport.write(ANSWER)


class Client(asyncio.Protocol):
    def __init__(self, store: Store, questions: "Questions") -> None:
        self.store, self.questions, self.got = store, questions, b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got = got = self.got + data if self.got else data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return
        length = got.lower().find(b"content-length:")
        if len(got) < end + 4 + int(got[length + 15 : got.find(b"\r\n", length)]):
            return
        start = got.find(ID, end) + len(ID)
        self.got = b""
        self.store.waiting.append((self, self.questions.count))
        self.store.transport.write(self.questions.about(got[start : got.find(b'"', start)].decode()))


class Questions:
    """What Segue asks of the store for one decision, as the bytes of the protocol."""

    def __init__(self, home: Home, url: str) -> None:
        self.keys, self.secret = Keys(), home.secret()
        with Redis.from_url(url) as client:
            self.version = Pointer.decode(client.get(self.keys.current)).current
        releases = ReleaseStore(home.releases)
        budgets = Ledger.of(releases.load(releases.current() or "").catalog).read[SURFACE]
        fixed = [packed("SMEMBERS", self.keys.killed)]
        for name in budgets:
            spent, leases, _ = self.keys.budget(name)
            fixed += [packed("GET", spent), packed("ZCOUNT", leases, f"({time.time()!r}", "+inf")]
        self.fixed, self.count = b"".join(fixed), 3 + len(fixed)

    def about(self, user_id: str) -> bytes:
        user = user_key(self.secret, user_id)
        field, keys = field_of(user), self.keys
        bucket = keys.bucket(self.version, bucket_of(field, self.version.buckets)).encode()
        history, fresh = keys.history(user).encode(), keys.fresh(user).encode()
        own = (len(history), history, len(fresh), fresh, len(bucket), bucket, field)
        return OWN % own + self.fixed


def packed(*words: str) -> bytes:
    return hiredis.pack_command(words)


async def serve(port: int, home: Home, url: str) -> None:
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    questions = Questions(home, url)
    _, store = await loop.create_connection(Store, at.hostname, at.port)
    server = await loop.create_server(lambda: Client(store, questions), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--shop", type=Path, required=True)
    words.add_argument("--redis", required=True)
    asked = words.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(asked.port, Home(asked.shop), asked.redis))
