"""What is left of a server at several times its capacity: by rungs, without any shedding, and with a cap in flight.

`python -m benchmarks.serving_overload`: an open-loop client on 4,000 connections sends as many requests a second as it
is told to, whatever comes back; one that finds no free connection within a second is given up. The connections have to
be more than what comes within 100 ms: what waits for one of them waits where no server can refuse it.
What counts is the share of all requests that had a decision within 100 ms.
"""

import argparse
import os
from typing import Any

from benchmarks import shop
from benchmarks.running import load
from benchmarks.timing import say

WAYS = ("rungs", "cap", "nothing")
STEPS = ("rungs", "cached", "prior", "fallback", "refused")
CROWD = 4000
PATIENCE = 1.0


def asked(place: shop.Shop, url: str, way: str, **more: Any) -> dict[str, Any]:
    """One load on a server of its own."""
    os.environ["SHEDDING"] = way
    with shop.serving(place, url, module="benchmarks.shedding_server") as (pid, port, headers):
        return load(port, place.bodies, [pid], headers=headers, **more)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=5.0)
    words.add_argument("--times", type=float, nargs="*", default=[5.0], help="of the capacity")
    words.add_argument("--steps", action="store_true", help="what each rung costs, instead")
    told = words.parse_args()
    place = shop.prepared()
    with shop.stocked(place) as url:
        if told.steps:
            for way in STEPS:
                found = asked(place, url, way, seconds=told.seconds)
                say(f"{way:9} {found['cpu_us']:6.1f} µs of CPU a request, {found['per_second']:,.0f} a second")
            return
        capacity = asked(place, url, "rungs", seconds=told.seconds)["per_second"]
        say(f"capacity: {capacity:,.0f} decisions a second")
        for times in told.times:
            for way in WAYS:
                rate = capacity * times
                found = asked(place, url, way, seconds=told.seconds, rate=rate, connections=CROWD, patience=PATIENCE)
                say(
                    f"{times:g}× {way:8} of {found['due']:,} requests {found['in_time'] / found['due']:.1%} decided "
                    f"within 100 ms ({found['in_time'] / told.seconds:,.0f} a second), p50 {found['p50_ms']:.0f} ms, "
                    f"p99 {found['p99_ms']:.0f} ms, client {found['client_busy']:.0%}: {found['statuses']}"
                )


if __name__ == "__main__":
    main()
