"""Feast on Redis beside us: writing the same features of the same users, and reading one user's, in one run.

Both talk to one Valkey over the loopback address (Feast's client knows no Unix sockets), each through its own Python
API, in turns, each time into an empty store. Feast writes far fewer users, as it would take minutes otherwise; of its
two ways of writing, the faster one counts, without its check for older values. Needs `make .venv-peers/feast/.stamp`.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from redis import Redis

from benchmarks.many_users import SECRET, tcp_server, user_ids, write_snapshot
from benchmarks.timing import figure, say
from decisioning.identity import user_key
from features.schema import Schema
from features.snapshot_files import Snapshot
from stores.online.redis_store import RedisStore
from stores.publishing.snapshot import publish_snapshot

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-peers" / "feast" / "bin" / "python"
USERS, FEAST_USERS, READS, RUNS = 250_000, 10_000, 2_000, 3
SEED = 1


def feast(snapshot: Snapshot, host: str, port: int, users: int, reads: int) -> tuple[float, float, float]:
    """Users a second, µs of a read, bytes a user."""
    words = [str(PYTHON), str(ROOT / "benchmarks" / "feast_peer.py"), str(snapshot.path), host, str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [*words, str(users), str(reads)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
        cwd=snapshot.path, env=environment,
    )  # fmt: skip
    told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return max(one["write"] for one in told if "write" in one), told[-1]["p50_us"], told[-1]["bytes_per_user"]


def ours(snapshot: Snapshot, url: str, reads: int) -> tuple[float, float, float]:
    """The same of ours."""
    done = publish_snapshot(url, snapshot, SECRET)
    users = [user_key(SECRET, user) for user in Random(SEED).sample(user_ids(snapshot.rows), reads)]
    return done.users / done.seconds, asyncio.run(_reads(url, users, snapshot.schema)), done.bytes_per_user


async def _reads(url: str, users: list[str], of: Schema) -> float:
    store, times = RedisStore(url, timeout=5.0), []
    for user in users:
        started = time.perf_counter()
        facts = await store.read(user, of)
        times.append(time.perf_counter() - started)
        if not facts.features:
            raise AssertionError(f"{user} has no features")
    await store.close()
    return median(times) * 1e6


def measure(quick: bool = False) -> dict[str, Any]:
    if not PYTHON.is_file():
        raise FileNotFoundError("Feast has no environment: run `make .venv-peers/feast/.stamp`")
    users, feast_users, reads, runs = (50_000, 2_000, 200, 1) if quick else (USERS, FEAST_USERS, READS, RUNS)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        snapshot = write_snapshot(Path(folder) / "snapshot", users, SEED)
        with tcp_server(Path(folder)) as (host, port), Redis(host=host, port=port) as client:
            for _ in range(runs):
                client.execute_command("FLUSHALL", "SYNC")
                own = ours(snapshot, f"redis://{host}:{port}", reads)
                client.execute_command("FLUSHALL", "SYNC")
                theirs = feast(snapshot, host, port, feast_users, reads)
                rounds.append((own, theirs))
                say("  " + "; ".join(f"{who}: {w:,.0f} users/s, {r:,.0f} µs a read, {b:.0f} bytes a user"
                                     for who, (w, r, b) in (("Segue", own), ("Feast", theirs))))  # fmt: skip
    return {
        "feast_publish_ratio": figure([own[0] / theirs[0] for own, theirs in rounds]),
        "feast_read_ratio": figure([theirs[1] / own[1] for own, theirs in rounds]),
        "feast_users_per_s": figure([theirs[0] for _, theirs in rounds]),
        "feast_read_p50_us": figure([theirs[1] for _, theirs in rounds]),
        "beside_feast_users_per_s": figure([own[0] for own, _ in rounds]),
        "beside_feast_read_p50_us": figure([own[1] for own, _ in rounds]),
        "feast_bytes_per_user": round(median(theirs[2] for _, theirs in rounds), 1),
        "feast_users_written": feast_users,
    }


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv), indent=1))
