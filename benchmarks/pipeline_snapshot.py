"""A snapshot of 200,000 users from 5 million events: `segue features build` beside the same features in pandas.

Each side is a process of its own that reads the same two Parquet files and writes the snapshot as Parquet; they take
turns, and both clocks run from the start of the process to its end. Ours also does all that a build does: it checks the
sources, looks for duplicates, holds the result to its contract, and leaves what the next day goes on from. The pandas
side does none of this, and is written as one would who knows pandas: benchmarks/pandas_features.py. Before anything is
timed, every value of both is compared. Memory is the most that a process held (VmHWM).

Alone: `.venv/bin/python -m benchmarks.pipeline_snapshot`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import figure, say

USERS, EVENTS, DAYS, RUNS, SEED = 200_000, 5_000_000, 120, 5, 1
END = datetime(2026, 11, 22, tzinfo=UTC)
MOMENT = pa.timestamp("us", "UTC")
SECOND = 1_000_000

ARTISTS = tuple(f"artist{number}" for number in range(900))
OFFERS = tuple(f"offer{number}" for number in range(30))
KINDS: Mapping[str, tuple[float, tuple[str, ...]]] = {
    "session": (0.34, ("phone", "phone", "desktop", "speaker", "tv", "car", "hifi")),
    "play": (0.25, ARTISTS),
    "ads": (0.12, ()),
    "skip_limit": (0.06, ()),
    "impression": (0.05, OFFERS),
    "audiobook": (0.03, ()),
    "merch_click": (0.03, ()),
    "family_signal": (0.02, ()),
    "follow": (0.02, ARTISTS),
    "tier_change": (0.015, ("free", "free", "basic", "premium")),
    "payment": (0.015, ("ok", "ok", "ok", "failed")),
    "tour_nearby": (0.01, ARTISTS),
    "consent": (0.01, ("yes", "yes", "no")),
    "click": (0.01, OFFERS),
    "dismiss": (0.005, OFFERS),
    "unfollow": (0.005, ARTISTS),
    "student": (0.005, ("yes", "no")),
    "trial_start": (0.003, OFFERS),
    "convert": (0.002, OFFERS),
    "merch_purchase": (0.005, ()),
    "addon_hifi": (0.0025, ("on", "off")),
    "addon_audiobooks": (0.0025, ("on", "off")),
}
"""Each type's share of the events, and what its events name."""


def measure(quick: bool = False) -> dict[str, Any]:
    """Our time and memory as shares of those of pandas, and both in seconds and bytes."""
    users, events, runs = (8_000, 200_000, 3) if quick else (USERS, EVENTS, RUNS)
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        say(f"{events:,} events of {users:,} users")
        write_data(data, users, events)
        features = check_equal(data)
        found: dict[str, list[tuple[float, int]]] = {"ours": [], "pandas": []}
        for run in range(runs):
            for side, figures in found.items():
                figures.append(timed(side, data))
                seconds, memory = figures[-1]
                say(f"run {run + 1} of {runs}, {side}: {seconds:.2f} s, {memory / 1e6:,.0f} MB")
    return {
        "snapshot_vs_pandas_time": figure([ours[0] / theirs[0] for ours, theirs in zip(*found.values(), strict=True)]),
        "snapshot_vs_pandas_memory": figure(
            [ours[1] / theirs[1] for ours, theirs in zip(*found.values(), strict=True)]
        ),
        **{f"snapshot_{side}_seconds": figure([seconds for seconds, _ in found[side]]) for side in found},
        **{f"snapshot_{side}_mb": figure([memory / 1e6 for _, memory in found[side]]) for side in found},
        "snapshot_events": events,
        "snapshot_users": users,
        "snapshot_features": features,
    }


# --- The two sides, each in a process of its own ---


def timed(side: str, data: Path, keep: Path | None = None) -> tuple[float, int]:
    """Seconds from the start of the process to its end, and the most bytes that it held."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.pipeline_snapshot", "--side", side, str(data), str(keep or folder)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return time.perf_counter() - started, int(done.stdout)


def run_side(side: str, data: Path, out: Path) -> None:
    """Imports only what its side needs."""
    if side == "pandas":
        from benchmarks.pandas_features import snapshot

        snapshot(data, out / "pandas.parquet", END)
    else:
        from benchmarks.pandas_features import NAMES
        from features.definitions import SCHEMA
        from features.schema import Schema
        from features.snapshots import build_snapshot

        schema = Schema(tuple(spec for spec in SCHEMA.specs if spec.name in NAMES))
        build_snapshot(data, out / "snapshots", schema=schema)
    print(most_held())


def most_held() -> int:
    """Bytes. What `getrusage` tells would begin with the memory of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def check_equal(data: Path) -> int:
    """How many features both sides have. Raises RuntimeError for the first one of which any value differs."""
    from features.snapshots import current

    with TemporaryDirectory() as folder:
        out = Path(folder)
        timed("ours", data, out)
        timed("pandas", data, out)
        ours, theirs = current(out / "snapshots").frame(), pq.read_table(out / "pandas.parquet").to_pandas()
    if set(ours.columns) != set(theirs.columns):
        raise RuntimeError(f"Only one side has {sorted(set(ours.columns) ^ set(theirs.columns))}.")
    for name in ours.columns:
        if not same(ours[name], theirs[name]):
            raise RuntimeError(f"The two sides differ in {name}.")
    say(f"the same {len(ours.columns) - 1} features of {len(ours):,} users on both sides")
    return len(ours.columns) - 1


def same(ours: Any, theirs: Any) -> bool:
    """Texts and truth values exactly, numbers to 1e-12, and missing where the other is."""
    if (ours.isna() != theirs.isna()).any():
        return False
    known = ours.notna()
    if ours.dtype in ("string", "boolean"):
        return bool((ours[known] == theirs[known]).all())
    return bool(np.allclose(ours[known].astype(float), theirs[known].astype(float), rtol=1e-12, atol=0.0))


# --- The data ---


def write_data(data: Path, users: int, events: int) -> None:
    """A folder as the simulator leaves it. Some users do much, most little; events lie in the order of time."""
    from features.definitions import SCHEMA

    data.mkdir(parents=True)
    random = np.random.default_rng(SEED)
    ids = np.char.add("user-", np.char.zfill(np.arange(users).astype(str), 7))
    pq.write_table(people(random, ids), data / "users.parquet")
    pq.write_table(history(random, ids, events), data / "events.parquet", row_group_size=250_000)
    told = {"source": "benchmark", "until": END.isoformat(), "features": SCHEMA.to_json()}
    (data / "dataset.json").write_text(json.dumps(told))


def people(random: np.random.Generator, ids: np.ndarray) -> pa.Table:
    def ago(low: int, high: int) -> pa.Array:
        days = random.integers(low, high, len(ids))
        return pa.array(int(END.timestamp()) * SECOND - days * 86_400 * SECOND).cast(MOMENT)

    markets = np.array(["SE", "GB", "US", "BR", "IN", "ID", "NO"])[random.integers(0, 7, len(ids))]
    columns = {"user_id": pa.array(ids), "signup_at": ago(DAYS, 2_000), "born_at": ago(14 * 365, 70 * 365)}
    return pa.table({**columns, "market": pa.array(markets)})


def history(random: np.random.Generator, ids: np.ndarray, events: int) -> pa.Table:
    names, shares = np.array(list(KINDS)), np.array([share for share, _ in KINDS.values()])
    kinds = names[random.choice(len(names), events, p=shares / shares.sum())]
    pace = random.gamma(1.2, 1.0, len(ids))
    user = random.choice(len(ids), events, p=pace / pace.sum())
    back = np.sort(random.integers(1, DAYS * 86_400 * SECOND, events))[::-1]
    item, amount, hour = np.full(events, None, object), np.full(events, np.nan), np.full(events, -1)
    for name, (_, items) in KINDS.items():
        rows = np.flatnonzero(kinds == name)
        if items:
            item[rows] = np.array(items, object)[random.integers(0, len(items), len(rows))]
        if name in ("session", "audiobook"):
            amount[rows] = random.gamma(2.0, 14.0, len(rows)).round(1)
        if name == "ads":
            amount[rows] = 1 + random.poisson(4.0, len(rows))
        if name == "session":
            hour[rows] = random.integers(0, 24, len(rows))
    return pa.table(
        {
            "user_id": pa.array(ids[user]),
            "at": pa.array(int(END.timestamp()) * SECOND - back).cast(MOMENT),
            "type": pa.array(kinds),
            "item": pa.array(item, pa.string()),
            "amount": pa.array(amount, mask=np.isnan(amount)),
            "hour": pa.array(hour, mask=hour < 0),
        }
    )


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="Snapshots beside the same features in pandas.")
    words.add_argument("--quick", action="store_true", help="a twenty-fifth of the events")
    words.add_argument("--side", nargs=3, metavar=("SIDE", "DATA", "OUT"), help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.side:
        run_side(given.side[0], Path(given.side[1]), Path(given.side[2]))
    else:
        print(json.dumps(measure(given.quick), indent=1))
