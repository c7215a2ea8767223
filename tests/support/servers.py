"""Real servers for tests beyond the embedded one: a three-node cluster, and the system's own `redis-server`.

All end with the process that started them, also when it is killed. Ports are free ones of the loopback address.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import RedisError

from stores.embedded import LEASH, SETTINGS, embedded_binary

HOST = "127.0.0.1"
START_SECONDS = 10.0
CLUSTERED = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "500",  # milliseconds after which the others take a silent one for dead
    "cluster-require-full-coverage": "no",  # who has a slot serves it, whatever became of the others
}
ATTEMPTS = 5
"""Somebody else may take a free port before our server does."""


def system_server() -> Path | None:
    """The `redis-server` that the system has installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


class Server:
    """One server process on a port of its own."""

    def __init__(self, folder: Path, binary: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._binary, self._settings = folder, binary, settings
        self.process, self.port = None, 0
        for _ in range(ATTEMPTS):
            self.port, self.bus = free_ports(2)
            if self.start():
                return
        raise RuntimeError(f"{binary} did not start: {(folder / 'server.log').read_text()[-2000:]}")

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def client(self) -> Redis:
        return Redis(host=HOST, port=self.port, protocol=2, socket_timeout=5.0)

    def start(self) -> bool:
        """Whether it answers; on the same ports as before, with the data it has."""
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.folder),
            "logfile": str(self.folder / "server.log"),
            "save": "",
            **({"cluster-port": str(self.bus)} if "cluster-enabled" in self._settings else {}),
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", *(value.split() or [""]))]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), str(self._binary), *options],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with self.client() as client:
                    return bool(client.ping())
            except (RedisError, OSError):
                time.sleep(0.01)
        self.kill()
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, binary: Path, **settings: str) -> Iterator[Server]:
    server = Server(folder, binary, **settings)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def cluster(folder: Path, nodes: int = 3) -> Iterator["Cluster"]:
    """A cluster of the embedded server: each node has a third of the slots, and no replica."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(redis_server(folder / f"node{number}", embedded_binary(), **CLUSTERED))
            for number in range(nodes)
        ]
        yield Cluster(made)


class Cluster:
    def __init__(self, nodes: Sequence[Server]) -> None:
        self.nodes = list(nodes)
        edges = [round(SLOTS * number / len(nodes)) for number in range(len(nodes) + 1)]
        for number, node in enumerate(nodes):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        self.meet(*nodes)
        self.wait_until_whole()

    @property
    def url(self) -> str:
        """Names the first two: a client has to find the others by itself."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes[:2])

    def meet(self, *nodes: Server) -> None:
        with self.nodes[0].client() as client:
            for node in nodes:
                if node is not self.nodes[0]:
                    client.execute_command("CLUSTER MEET", HOST, node.port, node.bus)

    def wait_until_whole(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not all(self._is_whole(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not come together")
            time.sleep(0.02)

    def _is_whole(self, node: Server) -> bool:
        with node.client() as client:
            told = client.execute_command("CLUSTER INFO")
        return told["cluster_state"] == "ok" and int(told["cluster_slots_ok"]) == SLOTS

    def owner(self, key: str) -> Server:
        """The node that has the slot of a key, by the word of the first."""
        slot = key_slot(key.encode())
        with self.nodes[0].client() as client:
            told = client.execute_command("CLUSTER SLOTS")
        port = next(master[1] for first, last, master, *_ in told if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def move(self, key: str, to: Server) -> None:
        """Gives the slot of a key to another node, with all keys in it."""
        slot, owner = key_slot(key.encode()), self.owner(key)
        with owner.client() as here, to.client() as there:
            ours, theirs = (client.execute_command("CLUSTER MYID").decode() for client in (here, there))
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ours)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", theirs)
            while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                here.execute_command("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
            for client in (there, here):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", theirs)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
