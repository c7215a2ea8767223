"""The event log: what an append costs a request, and whether kill -9 loses what was acknowledged.

Appends are timed by the clock on the wall, with fsync going on in the background, beside bare `os.write` calls of the
same lines in the same rounds. The lines are decisions of the sample catalog, of about 2 kB. For the kills, a process
appends, and tells each append through a pipe once it has returned; it is killed at a random moment, and everything that
it told has to be in the log: `.venv/bin/python -m benchmarks.pipeline_log`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks.timing import say
from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request, Value
from decisioning.engine import Release, decide
from decisioning.identity import user_key
from stores.catalog_files import read_catalog_files
from stores.log.decision_log import DecisionRecord, encode
from stores.log.event_log import EventLog
from stores.log.reader import read

ROOT = Path(__file__).resolve().parents[1]
LINES, ROUNDS, KILLS, SEED = 20_000, 7, 50, 1
NOW = 1_800_000_000.0
PACE = 500.0
"""Decisions a second, where appends are paced as requests come to one process."""

CHILD = """
import os, sys
from pathlib import Path
from stores.log.event_log import EventLog

log, line, number = EventLog(Path(sys.argv[1]), segment_bytes=200_000), b"x" * 2_000, int(sys.argv[2])
while True:
    log.append(b"%d " % number + line)
    os.write(1, number.to_bytes(8, "little"))
    number += 1
"""


def decisions(count: int) -> list[bytes]:
    """Lines of the decision log, of the sample catalog's surfaces in turn."""
    catalog, random = load_catalog(read_catalog_files(ROOT / "catalog")), Random(SEED)
    release, surfaces = Release("benchmark", catalog), sorted(catalog.surfaces)
    return [_line(release, catalog, surfaces[number % len(surfaces)], number, random) for number in range(count)]


def _line(release: Release, catalog: Catalog, surface: str, number: int, random: Random) -> bytes:
    values = {spec.name: _value(spec, random) for spec in catalog.features.values()}
    features = {name: value for name, value in values.items() if not catalog.features[name].from_context}
    context = {name: value for name, value in values.items() if catalog.features[name].from_context}
    offers = sorted(catalog.offers)
    history = tuple(HistoryEvent("impression", random.choice(offers), surface, NOW - 9_000.0 * n) for n in range(5))
    user = user_key(b"users of a benchmark", str(number))
    request = Request(f"{number:032x}.{surface}", user, surface, NOW + number, context)
    facts = Facts(features, NOW - 3_600.0, history)
    durations = {"parse": 3.1e-5, "read": 4.2e-4, "decide": 6.5e-5}
    return encode(DecisionRecord(request, facts, decide(release, request, facts), durations))


def _value(spec: FeatureSpec, random: Random) -> Value:
    match spec.type:
        case FeatureType.BOOL:
            return random.random() < 0.5
        case FeatureType.ENUM:
            return random.choice(spec.values)
        case FeatureType.SET:
            return frozenset(random.sample(spec.values, min(2, len(spec.values))))
        case FeatureType.TIME:
            return NOW - random.randrange(10**7)
        case FeatureType.INT:
            return random.randrange(100)
        case FeatureType.TEXT:
            return "Europe/Stockholm"
    return random.random() * 100


def appends(lines: Sequence[bytes], rounds: int, folder: Path) -> dict[str, Any]:
    """Microseconds an append, in each round; those of a bare write; and appends one by one, paced as requests are."""
    found: dict[str, list[float]] = {"append": [], "write": []}
    for number in range(rounds):
        log = EventLog(folder / f"log-{number}")
        found["append"].append(_timed(log.append, lines))
        log.close()
        file = os.open(folder / f"bare-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        found["write"].append(_timed(lambda line, file=file: os.write(file, line), lines))
        os.close(file)
        shutil.rmtree(folder / f"log-{number}")
        os.unlink(folder / f"bare-{number}")
        say(f"  {found['append'][-1]:.2f} µs an append, {found['write'][-1]:.2f} µs a bare write")
    some = lines[: int(3 * PACE)]
    log = EventLog(folder / "paced")
    paced = _paced(log.append, some)
    log.close()
    file = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    bare = _paced(lambda line: os.write(file, line), some)
    os.close(file)
    return {
        "append_us": _figure(found["append"]),
        "bare_write_us": _figure(found["write"]),
        "append_paced_us": _percentiles(paced),
        "bare_write_paced_us": _percentiles(bare),
        "line_bytes": round(sum(map(len, lines)) / len(lines)),
        "lines_a_run": len(lines),
    }


def _timed(write: Callable[[bytes], object], lines: Sequence[bytes]) -> float:
    started = time.perf_counter()
    for line in lines:
        write(line)
    return (time.perf_counter() - started) / len(lines) * 1e6


def _paced(write: Callable[[bytes], object], lines: Sequence[bytes]) -> list[float]:
    found = []
    for line in lines:
        time.sleep(1 / PACE)
        started = time.perf_counter()
        write(line)
        found.append((time.perf_counter() - started) * 1e6)
    return found


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "p99": round(sorted(values)[int(len(values) * 0.99)], 2)}


def _figure(values: Sequence[float]) -> dict[str, Any]:
    low, high = round(min(values), 2), round(max(values), 2)
    return {"median": round(median(values), 2), "low": low, "high": high, "runs": len(values)}


def kills(times: int, folder: Path, seed: int = SEED) -> dict[str, int]:
    """Kills a process that appends, so many times, on one log; counts what was acknowledged, and what of it is lost."""
    random, acknowledged = Random(seed), set()
    for number in range(times):
        acknowledged |= _killed(folder, number * 10**9, random.uniform(0.0, 0.05))
    lost = acknowledged - read_numbers(folder)
    return {"kills": times, "acknowledged": len(acknowledged), "lost": len(lost)}


def read_numbers(folder: Path) -> set[int]:
    """Of the lines in a log. Raises RuntimeError where one is there twice."""
    found = [int(line.split(b" ", 1)[0]) for line in read(folder)]
    if len(set(found)) < len(found):
        raise RuntimeError("The log holds lines twice.")
    return set(found)


def _killed(folder: Path, start: int, after: float) -> set[int]:
    """What a process acknowledged that was killed so many seconds after its first append."""
    with subprocess.Popen([sys.executable, "-c", CHILD, folder, str(start)], cwd=ROOT, stdout=subprocess.PIPE) as child:
        told = child.stdout.read(8)
        deadline = time.perf_counter() + after
        while time.perf_counter() < deadline:
            told += child.stdout.read1(2**16)
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read()
    whole = len(told) // 8 * 8
    return {int.from_bytes(told[at : at + 8], "little") for at in range(0, whole, 8)}


def measure(quick: bool = False) -> dict[str, Any]:
    """`append_us` with its spread, what it stands beside, and `kills`: how many, and how many lines were lost."""
    folder = Path(tempfile.mkdtemp(prefix="segue-log-"))
    try:
        say("append decisions")
        found = appends(decisions(LINES // 10 if quick else LINES), 3 if quick else ROUNDS, folder)
        say("kill -9 at random moments")
        return found | {"kill_9": kills(5 if quick else KILLS, folder / "killed")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer lines, five kills")
    print(json.dumps(measure(parser.parse_args().quick), indent=1))


if __name__ == "__main__":
    main()
