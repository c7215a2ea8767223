"""Segue's server beside an echo, the raw-socket floor and the same service by hand, in turns on one core.

Every server runs all the time, each in its own process; in each round the load client asks one after the other. A ratio
is taken within its round. The server of a round has one core for itself, the other one is for the load client and
Valkey. Two workers are compared with one on both cores, each worker with 16 connections.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.running import (
    CONNECTIONS,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    answers,
    free_port,
    load,
    process,
    until,
)
from benchmarks.shop import FOLDER, WHOLE, Shop, prepared, serving, stocked
from benchmarks.timing import figure, say

MANY_OFFERS = 1_000
ROUNDS, SECONDS = 9, 2.0
BOTH = (SERVER_CORE, LOAD_CORE)
ATTEMPTS = 3
TOLERATED = 0.01
"""The share of decisions that may be made with less than everything: other programs' moments on the same cores."""
UNREAD = f"Authorization: Bearer segue_{'0' * 43}"
"""What the others are sent where Segue gets its key: requests of the same size for everybody."""
SHOWN = ("per_second", "cpu_us", "p50_ms", "p99_ms")
PACKAGES = ("fastapi", "pydantic", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "lightgbm", "numpy", "msgspec")


@dataclass(frozen=True, slots=True)
class Subject:
    """A server to ask, and how."""

    port: int
    pid: int
    bodies: Path
    connections: int = CONNECTIONS
    path: str = "/v1/decisions"
    headers: tuple[str, ...] = ()
    load_cores: tuple[int, ...] = (LOAD_CORE,)
    expect: str = ""
    """What an answer holds that counts as one: a server that is behind may answer with less."""

    def asked(self, seconds: float) -> dict[str, Any]:
        """What the load client found. Raises RuntimeError where answers are not 200, or not what is expected.

        A server that was disturbed, and so decided with less than everything, is asked again.
        """
        for _ in range(ATTEMPTS):
            found = self._asked(seconds)
            if set(found["statuses"]) == {"200"} and found["unexpected"] <= TOLERATED * found["requests"]:
                return found
        raise RuntimeError(
            f"{found['statuses']}; {found['unexpected']} of {found['requests']} answers were made with less than all; "
            f"the last one: {found['last']}"
        )

    def _asked(self, seconds: float) -> dict[str, Any]:
        return load(
            self.port, self.bodies, [self.pid], seconds=seconds, connections=self.connections, path=self.path,
            headers=self.headers, expect=self.expect, cores=self.load_cores,
        )  # fmt: skip


@contextmanager
def segue(shop: Shop, url: str, workers: int = 1, *, on_both: bool = False) -> Iterator[Subject]:
    """Our own server. On both cores it has 16 connections for each worker."""
    cores = BOTH if on_both else (SERVER_CORE,)
    with serving(shop, url, workers, cores) as (pid, port, headers):
        load_cores = BOTH if on_both else (LOAD_CORE,)
        yield Subject(
            port, pid, shop.bodies, CONNECTIONS * workers, headers=headers, load_cores=load_cores, expect=WHOLE
        )


@contextmanager
def rival(name: str, shop: Shop, url: str) -> Iterator[Subject]:
    """One of benchmarks/rivals that runs in our own environment."""
    port = free_port()
    command = [sys.executable, ROOT / "benchmarks" / "rivals" / f"{name}.py", "--port", port]
    body = shop.bodies.read_bytes().partition(b"\n")[0]
    with tempfile.TemporaryFile() as said, process([*command, "--shop", shop.path, "--redis", url], said) as server:
        until(lambda: answers(port, "/v1/decisions", body), server, said)
        yield Subject(port, server.pid, shop.bodies, headers=(UNREAD,))


def in_turns(subjects: Mapping[str, Subject], rounds: int, seconds: float) -> list[dict[str, dict[str, Any]]]:
    """What the load client found of each subject, round by round: A B C, C B A, …

    Every other round turns the order round, so that no subject always follows the same one, and a machine that grows
    slower or faster within a round does as much for every side as against it.
    """
    found: list[dict[str, dict[str, Any]]] = []
    for number in range(rounds):
        order = list(subjects)[:: -1 if number % 2 else 1]
        turn = {name: subjects[name].asked(seconds) for name in order}
        found.append({name: turn[name] for name in subjects})
        told = ", ".join(f"{name} {one['per_second']:,.0f}/s {one['cpu_us']:.0f} µs" for name, one in found[-1].items())
        say(f"  round {number + 1}: {told}")
    return found


def ratios(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """The figures of serving.md's table that come of these rounds."""

    def over(what: str, one: str, other: str) -> dict[str, Any]:
        return figure([turn[one][what] / turn[other][what] for turn in found])

    return {
        "vs_echo": over("per_second", "segue", "echo"),
        "vs_hand_assembled": over("per_second", "segue", "by_hand"),
        "vs_floor_cpu": over("cpu_us", "segue", "floor"),
        "p99_over_p50": figure([turn["segue"]["p99_ms"] / turn["segue"]["p50_ms"] for turn in found]),
        "workers_cpu_ratio": over("cpu_us", "two_workers", "one_worker"),
        "offers_1000_over_50": over("cpu_us", "offers_1000", "segue"),
    }


def absolutes(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Decisions a second, CPU and latencies of every subject: for the reader, and for the chart."""
    return {
        name: {what: figure([turn[name][what] for turn in found]) for what in (*SHOWN, "busy", "client_busy")}
        for name in found[0]
    }


def measure(quick: bool = False, folder: Path = FOLDER) -> dict[str, Any]:
    """`quick`: one short round of each; the figures then say that it runs, and nothing else."""
    rounds, seconds = (1, 0.3) if quick else (ROUNDS, SECONDS)
    shop, large = prepared(folder), prepared(folder, MANY_OFFERS)
    with ExitStack() as stack:
        url, url_large = stack.enter_context(stocked(shop)), stack.enter_context(stocked(large))
        subjects = {
            "segue": stack.enter_context(segue(shop, url)),
            "echo": stack.enter_context(rival("echo", shop, url)),
            "floor": stack.enter_context(rival("floor", shop, url)),
            "by_hand": stack.enter_context(rival("by_hand", shop, url)),
            "offers_1000": stack.enter_context(segue(large, url_large)),
            "one_worker": stack.enter_context(segue(shop, url, on_both=True)),
            "two_workers": stack.enter_context(segue(shop, url, 2, on_both=True)),
        }
        found = in_turns(subjects, rounds, seconds)
    return {**ratios(found), "servers": absolutes(found), "versions": {name: version(name) for name in PACKAGES}}


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv), indent=1))
