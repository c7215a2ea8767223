"""Reach over a million users: how long one question takes, for the offers of the reference workload.

`reach_1m_users_s` is a figure of `decide.json`. Alone: `python benchmarks/reach.py`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from workload import ADDONS, AGES, MARKETS, NOW, SIGNALS, catalog_text

from decisioning.catalog_yaml import load_catalog
from evaluation.reach import reach
from features.schema import Schema
from features.snapshots import PART_ROWS, Snapshot, read_snapshot

USERS = 1_000_000
UNKNOWN = 0.02
"""The share of users of whom a thing is not known."""


def reach_seconds(users: int = USERS, offers: int = 50, runs: int = 3, seed: int = 17) -> list[float]:
    """How long `reach` of the whole catalog took, each time: in a new connection, with files that the system holds."""
    catalog = load_catalog(catalog_text(offers))
    seconds = []
    with TemporaryDirectory() as folder:
        snapshot = write_snapshot(Path(folder), Schema.of(catalog.features), users, seed)
        for _ in range(runs):
            started = time.perf_counter()
            found = reach(catalog, snapshot)
            seconds.append(time.perf_counter() - started)
    if not any(0 < one.at_most < users for one in found):
        raise RuntimeError("The rules drop nobody, or everybody: this measures nothing.")
    return seconds


def write_snapshot(folder: Path, schema: Schema, users: int, seed: int) -> Snapshot:
    """A snapshot of users like those of `workload.visits`, in parts as `build_snapshot` writes them."""
    random = np.random.default_rng(seed)
    parts = []
    for first in range(0, users, PART_ROWS):
        size = min(PART_ROWS, users - first)
        columns = dict(_columns(random, size))
        names = pa.array([f"user-{number}" for number in range(first, first + size)])
        table = pa.table({"user_id": names, **{name: columns[name] for name in schema.names}})
        parts.append(f"part-{len(parts):05d}.parquet")
        pq.write_table(table, folder / parts[-1])
    as_of = np.datetime64(int(NOW), "s").item().isoformat() + "+00:00"
    manifest = {"id": "benchmark", "as_of": as_of, "rows": users, "schema": schema.to_json(), "parts": parts}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return read_snapshot(folder)


def _columns(random: np.random.Generator, size: int) -> Iterator[tuple[str, pa.Array]]:
    def known(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=random.random(size) < UNKNOWN)

    def one_of(names: list[str], chances: list[float]) -> pa.Array:
        codes = known(random.choice(len(names), size, p=np.divide(chances, sum(chances))))
        return pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())

    yield "tier", one_of(["free", "basic", "premium"], [80, 12, 8])
    yield "market", one_of(MARKETS, [25, 20, 25, 5, 5, 4, 4, 5, 4, 3])
    yield "age_band", one_of(AGES, [5, 25, 35, 25, 10])
    for name, chance in (
        ("is_student", 0.2),
        ("had_trial", 0.15),
        ("payment_failed", 0.03),
        ("consent_marketing", 0.8),
    ):
        yield name, known(random.random(size) < chance)
    sets = [[name for bit, name in enumerate(ADDONS) if mask >> bit & 1] for mask in range(2 ** len(ADDONS))]
    masks = sum((random.random(size) < 0.06).astype(int) << bit for bit in range(len(ADDONS)))
    yield "owned_addons", pa.array(sets, pa.list_(pa.string())).take(known(masks))
    yield "days_on_tier", known(random.exponential(300, size).astype(int) + 5)
    yield "skips_limited_7d", known(random.exponential(4, size).astype(int))
    for name, scale in (("sessions_7d", 4), ("sessions_28d", 14), ("ads_heard_7d", 14), ("followed_artists", 9)):
        yield name, known(random.gamma(2, scale, size).astype(int))
    yield "minutes_7d", known(random.gamma(2, 90, size))
    for name in SIGNALS:
        yield name, known(random.random(size))


if __name__ == "__main__":
    measured = reach_seconds()
    print(json.dumps({"reach_1m_users_s": round(median(measured), 3), "runs": [round(one, 3) for one in measured]}))
