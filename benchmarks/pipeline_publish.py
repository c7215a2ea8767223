"""Publishing: users a second, bytes a user, what a read costs, and whether readers and kill -9 see anything of it.

The store is the embedded Valkey on a Unix socket. Publishing is timed from opening the Parquet to the switched pointer,
each time into an empty store, beside the same bytes sent ready-made through one socket: what the server alone can take.
Reads are interleaved: the field of a bucket, then a plain key with a blob of the same size, over one connection. Flips
are watched by the reader of the service, from versions of which every value tells which one it is.
`.venv/bin/python -m benchmarks.pipeline_publish`.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.flipping import flips
from benchmarks.many_users import SECRET, schema, user_ids, write_snapshot
from benchmarks.timing import figure, say
from decisioning.identity import user_key
from features.schema import Schema
from features.snapshot_files import Snapshot, read_snapshot
from stores.embedded import running
from stores.online.layout import Keys, bucket_of, buckets_for, field_of
from stores.online.redis_store import RedisStore
from stores.publishing.lock import LOCK_SECONDS
from stores.publishing.publish import published
from stores.publishing.snapshot import SnapshotRows, publish_snapshot
from stores.publishing.verifying import verify_store
from stores.publishing.wire import Wire, command, hash_commands

USERS, RUNS = 1_000_000, 5
READS, ROUNDS = 5_000, 5
FLIP_READS = 20_000
SEED = 1


def speed(url: str, snapshot: Snapshot, runs: int) -> dict[str, Any]:
    """Users a second, of publishing and of the same bytes ready-made; bytes a user, by the server's own account."""
    rates: list[float] = []
    raw: list[float] = []
    sizes: list[float] = []
    with Redis.from_url(url, protocol=2) as client:
        for _ in range(runs):
            _empty(client)
            before = client.info("memory")["used_memory"]
            done = publish_snapshot(url, snapshot, SECRET)
            sizes.append((client.info("memory")["used_memory"] - before) / snapshot.rows)
            rates.append(done.users / done.seconds)
            _empty(client)
            raw.append(_ready_made(client, snapshot))
            say(f"  {rates[-1]:,.0f} users/s, {sizes[-1]:.1f} bytes a user; ready-made {raw[-1]:,.0f} users/s")
        _empty(client)
    return {
        "publish_users_per_s": figure(rates),
        "ready_made_users_per_s": figure(raw),
        "publish_vs_ready_made": figure([one / other for one, other in zip(rates, raw, strict=True)]),
        "bytes_per_user": figure(sizes, 4),
    }


def _empty(client: Redis) -> None:
    """Now, and not little by little while the next thing is measured."""
    client.execute_command("FLUSHALL", "SYNC")


def _ready_made(client: Redis, snapshot: Snapshot) -> float:
    """Users a second that the server takes where nothing has to be read, hashed or packed meanwhile."""
    seconds, users, buckets = 0.0, 0, buckets_for(snapshot.rows)
    connection = client.connection_pool.get_connection()
    for block in SnapshotRows(snapshot, SECRET).blocks(0, 300_000):
        commands = [words for _, words in hash_commands(block, buckets, lambda number: b"ready-made:%d" % number)]
        pieces = [
            (b"".join(commands[at : at + 2_000]), len(commands[at : at + 2_000]))
            for at in range(0, len(commands), 2_000)
        ]
        started = time.perf_counter()
        for piece, answers in pieces:
            connection.send_packed_command([piece])
            for _ in range(answers):
                connection.read_response()
        seconds += time.perf_counter() - started
        users += len(block.fields)
    client.connection_pool.release(connection)
    return users / seconds


def reads(url: str, snapshot: Snapshot, count: int, rounds: int) -> dict[str, Any]:
    """The median time of a bucket's field over that of a plain key, on a bare connection and by an asyncio client."""
    version = published(url)
    keys, random = Keys(), Random(SEED)
    chosen = random.sample(user_ids(snapshot.rows), min(count, snapshot.rows))
    fields = [field_of(user_key(SECRET, user)) for user in chosen]
    places = [(keys.bucket(version, bucket_of(field, version.buckets)), field) for field in fields]
    blobs = [_blob(field).decode() for field in fields]
    with Redis.from_url(url, protocol=2) as client:
        Wire(client).run(
            command(b"SET", _blob(field), vector.tobytes())
            for block in SnapshotRows(snapshot, SECRET).blocks()
            for field, vector in zip(block.fields, block.vectors, strict=True)
        )
        bare = [_bare(client, places, blobs) for _ in range(rounds)]
    ours = [asyncio.run(_by_client(url, places, blobs)) for _ in range(rounds)]
    whole = [
        asyncio.run(_whole_reads(url, [user_key(SECRET, user) for user in chosen], snapshot.schema))
        for _ in range(rounds)
    ]
    ratios = [hget / get for hget, get in bare]
    say(f"  {ratios} of a plain GET; by an asyncio client {[hget / get for hget, get in ours]}")
    return {
        "read_vs_get_p50": figure(ratios),
        "read_p50_us": figure([hget for hget, _ in bare]),
        "get_p50_us": figure([get for _, get in bare]),
        "client_read_vs_get_p50": figure([hget / get for hget, get in ours]),
        "store_read_p50_us": figure(whole),
    }


def _blob(field: bytes) -> bytes:
    """The plain key of a user, of whom the store has as many as it has fields."""
    return b"blob:" + field.hex().encode()


def _bare(client: Redis, places: list[tuple[str, bytes]], blobs: list[str]) -> tuple[float, float]:
    connection = client.connection_pool.get_connection()
    hgets: list[float] = []
    gets: list[float] = []
    for (key, field), blob in zip(places, blobs, strict=True):
        for words, times in ((("HGET", key, field), hgets), (("GET", blob), gets)):
            packed = connection.pack_command(*words)
            started = time.perf_counter()
            connection.send_packed_command(packed)
            found = connection.read_response()
            times.append(time.perf_counter() - started)
            if found is None:
                raise AssertionError(f"{words} is not there")
    client.connection_pool.release(connection)
    return median(hgets) * 1e6, median(gets) * 1e6


async def _by_client(url: str, places: list[tuple[str, bytes]], blobs: list[str]) -> tuple[float, float]:
    client = AsyncRedis.from_url(url, protocol=2)
    hgets: list[float] = []
    gets: list[float] = []
    for (key, field), blob in zip(places, blobs, strict=True):
        hgets.append(await _timed(lambda key=key, field=field: client.hget(key, field)))
        gets.append(await _timed(lambda blob=blob: client.get(blob)))
    await client.aclose()
    return median(hgets) * 1e6, median(gets) * 1e6


async def _whole_reads(url: str, users: list[str], of: Schema) -> float:
    """All that a decision asks of the store in its one round trip: features, history, switches."""
    store = RedisStore(url, timeout=5.0)
    times = [await _timed(lambda user=user: store.read(user, of)) for user in users]
    await store.close()
    return median(times) * 1e6


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def resumed(url: str, snapshot: Snapshot) -> dict[str, Any]:
    """Kills a publisher (SIGKILL) halfway, publishes again, and compares every user with the snapshot."""
    with Redis.from_url(url, protocol=2) as client:
        _empty(client)
        words = [sys.executable, "-m", "benchmarks.pipeline_publish", "--publish", str(snapshot.path), "--url", url]
        with subprocess.Popen(words, cwd=Path(__file__).parents[1]) as process:
            while _done(client) < snapshot.rows // 2 and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        killed = process.returncode == -signal.SIGKILL
        while client.exists(Keys().lock):
            time.sleep(0.1)
    again = publish_snapshot(url, snapshot, SECRET)
    skew = verify_store(url, snapshot, SECRET, None)
    share = 1.0 - again.resumed_at / snapshot.rows
    say(f"  killed: {killed}; the second attempt wrote {share:.0%} in {again.seconds:.1f} s; {skew.differing} differ")
    return {
        "resume_killed": killed,
        "resume_share_written": round(share, 3),
        "resume_seconds": round(again.seconds, 2),
        "resume_differing": skew.differing + skew.lost,
        "resume_lock_seconds": LOCK_SECONDS,
    }


def _done(client: Redis) -> int:
    return max(map(int, client.hvals(Keys().progress)), default=0)


def measure(quick: bool = False) -> dict[str, Any]:
    users, runs, count = (100_000, 2, 1_000) if quick else (USERS, RUNS, READS)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "valkey") as url:
        say(f"  writing a snapshot of {users:,} users with {schema().width} features")
        snapshot = write_snapshot(Path(folder) / "snapshot", users, SEED)
        found = speed(url, snapshot, runs)
        found |= resumed(url, snapshot)
        found |= reads(url, snapshot, count, 3 if quick else ROUNDS)
        found |= flips(url, FLIP_READS // (10 if quick else 1))
    return {**found, "users": users, "features": snapshot.schema.width}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true")
    words.add_argument("--publish", type=Path, help="a snapshot's folder: publish it to --url, and that is all")
    words.add_argument("--url")
    chosen = words.parse_args()
    if chosen.publish:
        publish_snapshot(chosen.url, read_snapshot(chosen.publish), SECRET)
    else:
        print(json.dumps(measure(chosen.quick), indent=1))


if __name__ == "__main__":
    main()
