"""A snapshot of many users with forty features of every kind, and servers to publish it to."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from redis import Redis
from redis.exceptions import RedisError

from decisioning.catalog import FeatureSpec, FeatureType
from features.schema import Schema
from features.snapshot_files import Snapshot, arrow_schema, write_manifest, write_parts
from stores.embedded import SETTINGS, embedded_binary

KINDS = {FeatureType.INT: 16, FeatureType.FLOAT: 13, FeatureType.BOOL: 4, FeatureType.ENUM: 4, FeatureType.TIME: 2}
TIERS = ("free", "basic", "duo", "family", "student")
GENRES = ("pop", "rock", "jazz", "folk", "rap", "metal", "soul", "classical")
BATCH = 100_000
SECRET = b"users of a benchmark, 32 bytes.."
AS_OF = "2026-11-01T00:00:00+00:00"
AS_OF_MINUTES = 29_635_200
"""Since 1970."""


def schema() -> Schema:
    """Forty features: thirty-nine of the kinds above, and a set."""
    specs = [
        FeatureSpec(f"{kind}_{number:02}", kind, TIERS if kind is FeatureType.ENUM else ())
        for kind, count in KINDS.items()
        for number in range(count)
    ]
    return Schema((*specs, FeatureSpec("set_00", FeatureType.SET, GENRES)))


def user_ids(users: int) -> list[str]:
    return [f"user-{number:09d}" for number in range(users)]


def write_snapshot(folder: Path, users: int, seed: int = 1) -> Snapshot:
    """A complete snapshot in a folder, written by the hand that writes all snapshots; a tenth of the values missing."""
    folder.mkdir(parents=True)
    random, of = np.random.default_rng(seed), schema()
    parts, rows = write_parts(folder, of, _batches(of, users, random))
    told = {"id": f"many-{users}-{seed}", "as_of": AS_OF, "rows": rows, "schema": of.to_json(), "parts": parts}
    write_manifest(folder, told)
    return Snapshot(folder, told)


def _batches(of: Schema, users: int, random: np.random.Generator) -> Iterator[pa.RecordBatch]:
    fields = arrow_schema(of.specs)
    for start in range(0, users, BATCH):
        count = min(BATCH, users - start)
        ids = pa.array([f"user-{number:09d}" for number in range(start, start + count)])
        columns = [_column(spec, count, random).cast(fields.field(spec.name).type) for spec in of.specs]
        yield pa.RecordBatch.from_arrays([ids, *columns], schema=fields)


def _column(spec: FeatureSpec, count: int, random: np.random.Generator) -> pa.Array:
    missing = random.random(count) < 0.1
    match spec.type:
        case FeatureType.INT:
            return pa.array(random.poisson(20.0, count), mask=missing)
        case FeatureType.FLOAT:
            return pa.array(random.gamma(2.0, 100.0, count), mask=missing)
        case FeatureType.BOOL:
            return pa.array(random.random(count) < 0.3, mask=missing)
        case FeatureType.ENUM:
            codes = pa.array(random.integers(0, len(TIERS), count), mask=missing)
            return pa.array(TIERS).take(codes)
        case FeatureType.TIME:
            minutes = AS_OF_MINUTES - random.integers(0, 10**6, count)
            return pa.array(minutes * 60 * 10**9, pa.timestamp("ns", "UTC"), mask=missing)
    lengths = random.integers(0, 4, count)
    codes = pa.array(random.integers(0, len(GENRES), int(lengths.sum())))
    return pa.ListArray.from_arrays(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.array(GENRES).take(codes)
    )


@contextmanager
def tcp_server(folder: Path) -> Iterator[tuple[str, int]]:
    """The embedded server on a port of the loopback address, for clients that know no Unix sockets: host and port."""
    host, port = "127.0.0.1", 16_379
    while True:
        settings = {**SETTINGS, "port": str(port), "bind": host, "dir": str(folder), "save": ""}
        words = [word for name, value in settings.items() for word in (f"--{name}", *(value.split() or [""]))]
        server = subprocess.Popen([str(embedded_binary()), *words], stdout=subprocess.DEVNULL, cwd=folder)
        try:
            if _answers(server, host, port):
                yield host, port
                return
        finally:
            server.terminate()
            server.wait()
        port += 1


def _answers(server: subprocess.Popen, host: str, port: int) -> bool:
    """Whether it came up: not where somebody else has the port."""
    for _ in range(500):
        if server.poll() is not None:
            return False
        try:
            with Redis(host=host, port=port, protocol=2) as client:
                return client.info("server")["process_id"] == server.pid
        except RedisError:
            time.sleep(0.01)
    return False
