"""Five minutes of steady load on a real server with a fault every twenty seconds, and what is left of it: `make soak`.

Two workers behind one port, at 70 % of what they answered just before; a store of their own behind a proxy that spoils
what passes; and in turn everything of `soak_faults.FAULTS`. At the end no request may have failed (but for those that
were shed, and those in the hands of a worker that was killed), no process may have grown, every decision in the log has
to come out the same when it is decided again, and all that was acknowledged has to be in the logs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

import httpx

from benchmarks.running import ROOT, process, text_of, until
from benchmarks.shop import PORT, Shop, prepared, stock
from benchmarks.timing import machine, say

sys.path.append(str(ROOT / "tests" / "support"))  # the proxy and the servers of the fault suite

from proxy import proxy
from servers import redis_server

from benchmarks.soak_faults import FAULTS, Scene, put_back
from benchmarks.soak_verdict import judged, table
from stores.api_keys import DECIDE, EVENTS, METRICS
from stores.embedded import embedded_binary
from stores.home import Home
from stores.key_file import KeyFile

RESULT = ROOT / "benchmarks" / "results" / "soak.json"
WORKERS = 2
SHARE = 0.7
EVERY = 20.0
CALIBRATING = 8.0
SETTLED = 30.0
"""Seconds after which a process that was started has all that it keeps."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=5.0)
    words.add_argument("--every", type=float, default=EVERY, help="seconds from one fault to the next")
    words.add_argument("--out", type=Path, default=RESULT)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), prepared(), asked.minutes * 60.0, asked.every)
    asked.out.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
    print(table(found))
    sys.exit(0 if found["ok"] else 1)


def soak(folder: Path, shop: Shop, seconds: float, every: float) -> dict:
    home = Home(folder / "home")
    shutil.copytree(shop.home.releases, home.releases)
    key = KeyFile(home.keys).add("soak", [DECIDE, EVENTS, METRICS], limit=None, who="soak", now=time.time()).text
    header = f"Authorization: Bearer {key}"
    with ExitStack() as stack:
        store = stack.enter_context(redis_server(folder / "store", embedded_binary()))
        stock(shop, store.url)
        between = stack.enter_context(proxy(store.url))
        said = stack.enter_context(tempfile.TemporaryFile())
        command = [sys.executable, "-m", "segue", "serve", "--port", 0, "--workers", WORKERS]
        more = {"SEGUE_HOME": str(home.path), "SEGUE_SECRET": shop.home.secret().hex(), "REDIS_URL": between.url}
        cores = range(os.cpu_count() or 1)
        with process(command, said, cores=cores, more=more) as server:
            port = int(until(lambda: PORT.search(text_of(said)), server, said)[1])
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=dict([header.split(": ")]), timeout=5.0)

            def version() -> dict:
                return client.get("/version", headers={"Connection": "close"}).json()

            scene = Scene(home, store, between, server.pid, version, folder / "kept")
            memory = Memory(server.pid)
            say(f"  calibrating for {CALIBRATING:.0f} s")
            most = loaded(port, shop, header, folder, CALIBRATING)["per_second"]
            say(f"  {most:,.0f} requests/s; now {SHARE:.0%} of that for {seconds / 60:.0f} minutes")
            with memory:
                told = under_faults(scene, port, shop, header, folder, seconds, every, SHARE * most)
            page = client.get("/metrics").text
            client.close()
        lines = [json.loads(line) for line in text_of(said).splitlines()]
        put_back(scene)
        say("  deciding everything again")
        told |= {"seconds": seconds, "capacity_per_second": most, "share": SHARE, "code": server.returncode}
        return judged(scene, told, memory.told(), lines, page)


def loaded(port: int, shop: Shop, header: str, folder: Path, seconds: float, rate: float = 0.0) -> dict:
    client = start_load(port, shop, header, folder, seconds, rate)
    if client.wait():
        raise RuntimeError("the load client failed")
    return json.loads((folder / "load.json").read_text())


def start_load(port: int, shop: Shop, header: str, folder: Path, seconds: float, rate: float) -> subprocess.Popen:
    words = ["--port", port, "--bodies", shop.bodies, "--seconds", seconds, "--rate", rate, "--header", header]
    command = [sys.executable, ROOT / "benchmarks" / "soak_load.py", *words, "--out", folder / "load.json"]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT)


def under_faults(
    scene: Scene, port: int, shop: Shop, header: str, folder: Path, seconds: float, every: float, rate: float
) -> dict:
    """What the client found, and when which fault was there (epoch seconds)."""
    started, faults = time.monotonic(), []
    client = start_load(port, shop, header, folder, seconds, rate)
    number = 0
    while (number + 1) * every < seconds:
        name, fault, lasts = FAULTS[number % len(FAULTS)]
        number += 1
        time.sleep(max(0.0, started + number * every - time.monotonic()))
        say(f"  {time.monotonic() - started:5.0f} s: {name}")
        begun = time.time()
        with fault(scene):
            time.sleep(lasts)
        faults.append({"fault": name, "from": begun, "until": time.time()})
    if client.wait():
        raise RuntimeError("the load client failed")
    return json.loads((folder / "load.json").read_text()) | {"faults": faults}


@dataclass
class Memory:
    """The resident megabytes of a process and its children, once a second."""

    pid: int
    samples: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def __enter__(self) -> "Memory":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(1.0):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for pid in (self.pid, *map(int, children)):
                if (size := resident(pid)) is not None:
                    self.samples[pid].append((time.monotonic() - started, size))

    def told(self) -> list[dict]:
        """Of each process that lived for long enough: its first, its median and its largest size, and its slope.

        The slope is that of the latter half of its life: what a new release brings is a step, and no growth.
        """
        found = []
        for pid, samples in self.samples.items():
            late = [one for one in samples if one[0] - samples[0][0] > SETTLED]
            if len(late) < SETTLED:
                continue
            slope = 60.0 * linear_regression(*zip(*late[len(late) // 2 :], strict=True)).slope
            sizes = [size for _, size in late]
            found.append(
                {"pid": pid, "seconds": len(samples), "first_mb": sizes[0], "median_mb": median(sizes),
                 "largest_mb": max(sizes), "mb_a_minute": round(slope, 3)}
            )  # fmt: skip
        return found


def resident(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), None)


if __name__ == "__main__":
    main()
