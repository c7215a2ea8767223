"""Segue's whole decision beside other people's servers that score 30 offers × 60 columns for one request.

Each runs in an environment of its own (`make bench-peers` prepares them), on the one core that Segue has in its turn,
with one worker and LightGBM on one thread; the load client and Valkey have the other core. One peer at a time runs
beside Segue and an echo, and they are asked in turns. What a peer is beside the echo says how fast it is itself: the
floors rest on that (docs/adr/0017).
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers_shop import Given, given
from benchmarks.running import ROOT, answers, free_port, process, until
from benchmarks.serving_path import Subject, in_turns, rival, segue
from benchmarks.shop import FOLDER, Shop, prepared, stocked
from benchmarks.timing import figure, say

ENVIRONMENTS = ROOT / ".venv-peers"
RIVALS = ROOT / "benchmarks" / "rivals"
ROUNDS, SECONDS = 5, 2.5


@dataclass(frozen=True, slots=True)
class Peer:
    """`command`: from its environment's bin folder, a port, the files and the store to the words that start it."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, int, Given, str], list[object]]
    protocol: str | None = None
    """Which of the files' bodies it is sent; None: the body of a decision request."""
    path: str = "/"
    environment: str = ""
    """Where it is not named like the peer."""

    @property
    def bin(self) -> Path:
        return ENVIRONMENTS / (self.environment or self.name) / "bin"


def script(name: str, *words: str, redis: bool = False) -> Callable[[Path, int, Given, str], list[object]]:
    def command(bin_folder: Path, port: int, files: Given, url: str) -> list[object]:
        more = ["--redis", url] if redis else []
        return [bin_folder / "python", RIVALS / f"{name}.py", "--port", port, "--given", files.path, *words, *more]

    return command


def bento(bin_folder: Path, port: int, files: Given, url: str) -> list[object]:
    where = ["--host", "127.0.0.1", "--port", port, "--working-dir", RIVALS]
    return [bin_folder / "bentoml", "serve", "bentoml_service:Scorer", *where, "--do-not-track", "--quiet"]


FEAST, MLFLOW, BENTOML = ("feast", "lightgbm", "fastapi"), ("mlflow", "lightgbm"), ("bentoml", "lightgbm")
PEERS = (
    Peer("feast", FEAST, script("feast_service", redis=True), path="/v1/decisions"),
    Peer("mlflow", MLFLOW, script("mlflow_serving"), "split", "/invocations"),
    Peer("bentoml", BENTOML, bento, "arrays", "/predict"),
    Peer("ray_serve", ("ray", "lightgbm"), script("ray_serving"), "lists", "/"),
    Peer("mlserver", ("mlserver", "lightgbm"), script("mlserver_serving"), "v2", "/v2/models/scorer/infer"),
    # The floors are for what a project's own guides say. What we know to be faster is told beside it.
    Peer("feast_async", FEAST, script("feast_service", redis=True), path="/v1/decisions_async", environment="feast"),
    Peer("mlflow_tensor", MLFLOW, script("mlflow_serving", "--tensor"), "inputs", "/invocations", "mlflow"),
    Peer("bentoml_on_loop", BENTOML, bento, "arrays", "/predict_on_loop", "bentoml"),
)
TUNED = frozenset({"feast_async", "mlflow_tensor", "bentoml_on_loop"})
"""Those without a floor of their own."""


@contextmanager
def running(peer: Peer, shop: Shop, files: Given, url: str) -> Iterator[Subject]:
    port = free_port()
    bodies = files.bodies(peer.protocol) if peer.protocol else shop.bodies
    body = bodies.read_bytes().partition(b"\n")[0]
    more = {
        **{"GIVEN": str(files.path), "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "UVICORN_ACCESS_LOG": "false"},
        **{"UVICORN_LOG_LEVEL": "warning", "PATH": f"{peer.bin}:/usr/bin:/bin"},
    }
    with tempfile.TemporaryFile() as said, process(peer.command(peer.bin, port, files, url), said, more=more) as server:
        until(lambda: answers(port, peer.path, body), server, said)
        yield Subject(port, server.pid, bodies, path=peer.path)


def versions(peer: Peer) -> dict[str, str]:
    """Of its packages, as they are installed in its environment."""
    found = {}
    for name in peer.packages:
        stem = name.replace("-", "_")
        (info,) = (peer.bin.parent / "lib").glob(f"python*/site-packages/{stem}-[0-9]*.dist-info")
        found[name] = info.name.removeprefix(f"{stem}-").removesuffix(".dist-info")
    return found


def measure(quick: bool = False, folder: Path = FOLDER) -> dict[str, Any]:
    missing = [peer.name for peer in PEERS if not (peer.bin.parent / ".stamp").is_file()]
    if missing:
        raise FileNotFoundError(f"there is no environment for {', '.join(missing)}: run `make bench-peers`")
    rounds, seconds = (1, 0.5) if quick else (ROUNDS, SECONDS)
    shop = prepared(folder)
    files = given(shop)
    figures: dict[str, Any] = {"peers": {}}
    with stocked(shop) as url, segue(shop, url) as ours, rival("echo", shop, url) as echo:
        for peer in PEERS:
            say(f"  {peer.name}")
            with running(peer, shop, files, url) as theirs:
                found = in_turns({"segue": ours, peer.name: theirs, "echo": echo}, rounds, seconds)
            figures[f"vs_{peer.name}"] = figure(
                [turn["segue"]["per_second"] / turn[peer.name]["per_second"] for turn in found]
            )
            figures["peers"][peer.name] = told(peer, found)
    return figures


def told(peer: Peer, found: list[dict[str, Mapping[str, float]]]) -> dict[str, Any]:
    return {
        **{what: figure([turn[peer.name][what] for turn in found]) for what in ("per_second", "p50_ms", "p99_ms")},
        "segue_per_second": figure([turn["segue"]["per_second"] for turn in found]),
        "echo_over": figure([turn["echo"]["per_second"] / turn[peer.name]["per_second"] for turn in found]),
        "versions": versions(peer),
    }


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv), indent=1))
