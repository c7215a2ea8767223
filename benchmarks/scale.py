"""What one more million costs: the slopes that docs/scale.md plans from, each measured at two sizes on this machine.

    python -m benchmarks.scale [--quick] [--only fit] [--plan]

Time is that of cores that work for it, so that whatever else the machine does has little say. It takes about five
minutes. Results go to benchmarks/results/scale.json; `--plan` measures nothing, and prints what they come to for 300
million users.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.timing import machine
from decisioning.domain import Event

RESULTS = Path(__file__).parent / "results" / "scale.json"
EVENTS_A_USER = 25
"""Of the window that features look back on; as in the benchmark of snapshots."""
HISTORY, FIT_COLUMNS, LINES, SEED = 20, 40, 20_000, 1
SIZES: Mapping[str, tuple[int, int]] = {
    "snapshot": (40_000, 160_000),
    "publish": (100_000, 400_000),
    "history": (500, 2_000),
    "score": (20_000, 60_000),
    "fit": (500_000, 2_000_000),
    "train": (50_000, 200_000),
}
"""Users of the first four, decisions of the others."""


def snapshot(users: int, folder: Path) -> dict[str, float]:
    """`segue features build` from the events of a window: time, most memory, and bytes on disk."""
    from benchmarks.pipeline_snapshot import timed, write_data

    write_data(folder / "data", users, EVENTS_A_USER * users)
    began = _core_seconds()
    _, memory = timed("ours", folder / "data", folder / "kept")
    disk = sum(file.stat().st_size for file in (folder / "kept").rglob("*.parquet"))
    return {"core_seconds": _core_seconds() - began, "peak_bytes": memory, "disk_bytes": disk}


def publish(users: int, folder: Path) -> dict[str, float]:
    """`segue features publish` of 40 features into one server: time of both, and bytes that the server holds."""
    from redis import Redis

    from benchmarks.many_users import SECRET, write_snapshot
    from stores.embedded import running
    from stores.publishing.snapshot import publish_snapshot

    written = write_snapshot(folder / "snapshot", users, SEED)
    began = _core_seconds()
    with running(folder / "valkey") as url, Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        publish_snapshot(url, written, SECRET)
        held = client.info("memory")["used_memory"] - before
    return {"core_seconds": _core_seconds() - began, "store_bytes": held}


def history(users: int, folder: Path) -> dict[str, float]:
    """What caps read: HISTORY impressions of each user, all different, as the server holds them."""
    from redis import Redis

    from stores.embedded import running

    with running(folder / "valkey") as url, Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        asyncio.run(_impressions(url, users))
        return {"store_bytes": client.info("memory")["used_memory"] - before}


async def _impressions(url: str, users: int) -> None:
    from stores.online.redis_store import RedisStore

    store, now = RedisStore(url, timeout=30.0), time.time()
    for user in range(users):
        key = f"{user:032x}"
        events = [
            Event(f"{key}-{n}", "impression", f"d-{key}-{n}", f"offer_{n % 30}", key, "banner", now - 3600.0 * n)
            for n in range(HISTORY)
        ]
        await asyncio.gather(*(store.apply(event) for event in events))
    await store.close()


def score(users: int, folder: Path) -> dict[str, float]:
    """`segue score` and `segue decide-all` by two processes, 50 offers, 200 trees of 31 leaves: time."""
    from benchmarks.pipeline_score import verbs

    found = verbs(users, _core_seconds_of)
    return {"score": users / found["score_users_per_s"], "decide_all": users / found["decide_all_users_per_s"]}


def fit(rows: int, folder: Path) -> dict[str, float]:
    """One fit of 80 trees over 40 columns, as `segue train` makes sixteen: time, and most memory."""
    return _apart("--fit", str(rows))


def train(rows: int, folder: Path) -> dict[str, float]:
    """`segue train` from tables to registered version, with 60 features, five folds and all evidence."""
    from benchmarks.learning_train import make

    make(folder, rows)
    return _apart("--train", str(folder / "home"))


PARTS: Mapping[str, Callable[[int, Path], dict[str, float]]] = {
    "snapshot": snapshot,
    "publish": publish,
    "history": history,
    "score": score,
    "fit": fit,
    "train": train,
}


def measure(quick: bool = False, only: str | None = None) -> dict[str, Any]:
    """By part: both sizes, what each took, and the slope of each figure: what one more takes."""
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        if only not in (None, name):
            continue
        sizes = [size // (10 if quick else 1) for size in SIZES[name]]
        points = []
        for size in sizes:
            _say(f"{name}: {size:,}")
            with tempfile.TemporaryDirectory() as folder:
                points.append(part(size, Path(folder)))
        found[name] = {"sizes": sizes, "points": points, "slope": slopes(sizes, points)}
    if only in (None, "log"):
        _say("log")
        found["log"] = log(LINES // (10 if quick else 1))
    return found


def slopes(sizes: list[int], points: list[dict[str, float]]) -> dict[str, float]:
    """What each further user or row takes."""
    (small, large), (before, after) = sizes, points
    return {name: (after[name] - before[name]) / (large - small) for name in before}


def log(lines: int) -> dict[str, float]:
    """Bytes a decision: as a line, and compacted to Parquet."""
    from benchmarks.pipeline_log import decisions
    from stores.home import Home
    from stores.home_logs import compact_logs
    from stores.log.event_log import EventLog

    written = decisions(lines)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        writer = EventLog(home.logs / "decisions")
        for line in written:
            writer.append(line)
        writer.close()
        compact_logs(home)
        disk = sum(file.stat().st_size for file in home.logs.rglob("*.parquet"))
    return {"line_bytes": sum(map(len, written)) / lines, "parquet_bytes": disk / lines}


# --- Processes of their own -------------------------------------------------------------------------------------------


def _apart(*words: str) -> dict[str, float]:
    """What the work takes in a process of its own, which prints the most bytes that it held."""
    began = _core_seconds()
    command = [sys.executable, "-m", "benchmarks.scale", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"core_seconds": _core_seconds() - began, "peak_bytes": int(done.stdout)}


def _core_seconds() -> float:
    """Seconds that cores have worked for this process and those that it has waited for: no other process counts."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _core_seconds_of(run: Callable[[], object]) -> float:
    began = _core_seconds()
    run()
    return _core_seconds() - began


def _fit(rows: int) -> None:
    import numpy as np

    from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Group, Offer, Score, Surface
    from models.encoding import Encoding
    from models.fitting.sample import Sample
    from models.learners import fit

    specs = {f"x{n:02}": FeatureSpec(f"x{n:02}", FeatureType.FLOAT) for n in range(FIT_COLUMNS)}
    offers = {name: Offer(name, "pm", "plans", ("home",), Score("m", value=1.0)) for name in "abcd"}
    groups, surfaces = {"plans": Group("plans", "convert", 60.0)}, {"home": Surface("home")}
    catalog = Catalog("h", features=specs, groups=groups, surfaces=surfaces, offers=offers)
    encoding, rng = Encoding.of(catalog, ["home"], list(offers)), np.random.default_rng(SEED)
    contexts = rng.standard_normal((rows, len(encoding.context_columns)), dtype=np.float32)
    outcome = (rng.random(rows) < 0.04 + 0.02 * (contexts[:, 0] > 0)).astype(float)
    fit("lightgbm", encoding, Sample(contexts, rng.integers(0, len(offers), rows), outcome, np.ones(rows)), {}, SEED)


def _train(home: Path) -> None:
    from stores.home import Home
    from training.train import train
    from workbench import load_catalog_of

    train(Home(home), load_catalog_of(Home(home), None))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="a tenth of the sizes, printed and not kept")
    words.add_argument("--only", choices=[*PARTS, "log"], help="measure one part anew, and keep the others")
    words.add_argument("--plan", action="store_true", help="print the plan from what was measured")
    words.add_argument("--fit", type=int, help=argparse.SUPPRESS)
    words.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.fit or asked.train:
        from benchmarks.pipeline_snapshot import most_held

        _fit(asked.fit) if asked.fit else _train(asked.train)
        print(most_held())
    elif asked.plan:
        from benchmarks.scale_plan import plan

        print(plan(json.loads(RESULTS.read_text())))
    elif asked.quick:
        print(json.dumps(measure(quick=True, only=asked.only), indent=1))
    else:
        known = json.loads(RESULTS.read_text()) if asked.only and RESULTS.exists() else {}
        found = known | measure(only=asked.only) | {"machine": machine()}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
