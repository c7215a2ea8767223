"""Servers under load for a benchmark: started each in a process of its own, kept to a core, and stopped again."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
SERVER_CORE, LOAD_CORE = 0, 1
START_SECONDS, STOP_SECONDS = 60.0, 30.0
CONNECTIONS = 16


@contextmanager
def process(
    command: Sequence[object],
    said: IO[bytes],
    *,
    cores: Sequence[int] = (SERVER_CORE,),
    more: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that writes what it says to `said`. `more`: variables of its environment, besides ours."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(more or {})}
    server = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=said, stderr=said)
    pin(server.pid, cores)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def pin(pid: int, cores: Sequence[int]) -> None:
    """To these cores, where the system can and has them. What the process starts later is pinned with it."""
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(pid, cores)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(found: Callable[[], Any], server: subprocess.Popen[bytes], said: IO[bytes]) -> Any:
    """What `found` gives as soon as it gives something. Raises RuntimeError when the server ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if result := found():
            return result
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {text_of(said)[-3000:]}")


def text_of(said: IO[bytes]) -> str:
    return os.pread(said.fileno(), 1 << 22, 0).decode("utf-8", "replace")


def answers(port: int, path: str, body: bytes) -> bool:
    """Whether a request is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(
    port: int,
    bodies: Path,
    watch: Sequence[int] = (),
    *,
    seconds: float = 2.0,
    connections: int = CONNECTIONS,
    path: str = "/v1/decisions",
    headers: Sequence[str] = (),
    rate: float | None = None,
    patience: float | None = None,
    expect: str = "",
    cores: Sequence[int] = (LOAD_CORE,),
) -> dict[str, Any]:
    """What the load client found; `cpu_us`: CPU time of the processes of `watch` together, by request."""
    words = ["--port", port, "--bodies", bodies, "--seconds", seconds, "--connections", connections, "--path", path]
    words += ["--warm", min(0.5, seconds)]
    words += [word for pid in watch for word in ("--watch", pid)] + [
        word for one in headers for word in ("--header", one)
    ]
    words += ["--open-loop", rate] if rate else []
    words += ["--patience", patience] if patience else []
    words += ["--expect", expect] if expect else []
    command = [sys.executable, ROOT / "benchmarks" / "serving_load.py", *words]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        pin(client.pid, cores)
        said, _ = client.communicate()
    if client.returncode:
        raise RuntimeError("the load client failed")
    return json.loads(said)
