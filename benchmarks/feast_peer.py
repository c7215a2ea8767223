"""Feast writes and reads the features of a snapshot; run by `pipeline_feast` in an environment that has Feast.

`feast_peer.py PARTS HOST PORT USERS READS` prints JSON lines: {"write": users a second} for each way of writing, then
{"p50_us", "bytes_per_user"} of reading one user's features at a time. Feast keeps to its local provider, a registry in
a file, and the Redis at that address; it has no usage reports to turn off (0.67 removed them), and its servers and
lineage are not started.
"""

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median

os.environ |= {"FEAST_USAGE": "False", "FEAST_TELEMETRY": "False"}  # of older versions

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.types import Array, Bool, Float64, Int64, String, UnixTimestamp
from redis import Redis

TYPES = {pa.int64(): Int64, pa.float64(): Float64, pa.bool_(): Bool, pa.string(): String}
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


def type_of(kind: pa.DataType) -> object:
    if pa.types.is_list(kind):
        return Array(String)
    return UnixTimestamp if pa.types.is_timestamp(kind) else TYPES[kind]


def main(parts: Path, host: str, port: int, users: int, reads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = pq.read_table(sorted(parts.glob("part-*.parquet"))[0]).slice(0, users)
        table = table.append_column("at", pa.array([AS_OF] * users, pa.timestamp("us", "UTC")))
        file = Path(folder) / "users.parquet"
        pq.write_table(table, file)
        store, names = opened(Path(folder), file, table, host, port)
        client = Redis(host=host, port=port)
        before = client.info("memory")["used_memory"]

        def rate(write: object) -> None:
            started = time.perf_counter()
            write()
            print(json.dumps({"write": users / (time.perf_counter() - started)}), flush=True)

        rate(lambda: store.materialize(AS_OF - timedelta(days=1), AS_OF + timedelta(days=1)))
        size = (client.info("memory")["used_memory"] - before) / users
        frame = table.to_pandas()
        rate(lambda: store.write_to_online_store("users", frame))
        random, ids, times = Random(1), table["user_id"].to_pylist(), []
        for _ in range(reads):
            row = [{"user_id": random.choice(ids)}]
            started = time.perf_counter()
            found = store.get_online_features(names, row).to_dict()
            times.append(time.perf_counter() - started)
            if sum(values != [None] for values in found.values()) <= len(names) // 2:  # a tenth is missing
                raise AssertionError(f"of {len(names)} features these were read: {found}")
        print(json.dumps({"p50_us": median(times) * 1e6, "bytes_per_user": size}), flush=True)


def opened(folder: Path, file: Path, table: pa.Table, host: str, port: int) -> tuple[FeatureStore, list[str]]:
    """The store, and the names of its features as they are asked for."""
    store = FeatureStore(
        config=RepoConfig(
            project="segue",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store=RedisOnlineStoreConfig(connection_string=f"{host}:{port}", skip_dedup=True),
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    features = [
        Field(name=one.name, dtype=type_of(one.type)) for one in table.schema if one.name not in ("user_id", "at")
    ]
    source = FileSource(path=str(file), timestamp_field="at")
    schema = [Field(name="user_id", dtype=String), *features]
    view = FeatureView(name="users", entities=[user], ttl=timedelta(days=3650), schema=schema, source=source)
    store.apply([user, view])
    return store, [f"users:{one.name}" for one in features]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
