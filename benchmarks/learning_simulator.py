"""How our policy does beside others in worlds of known truth: `segue simulate --policies all --seeds 10`, as figures.

python -m benchmarks.learning_simulator
"""

import json
import sys
import time
from pathlib import Path

from evaluation.arena.comparison import DAYS, SEEDS, USERS, Setting, compare
from stores.catalog_files import read_catalog_files

CATALOG = Path(__file__).parents[1] / "catalog"


def measure(quick: bool = False) -> dict[str, float | dict]:
    """captured_share, vs_propensity_argmax, vs_lints, vs_vw and exploration_cost, with the whole table as `simulator`.

    `quick` is two small worlds: it shows that the measure runs, and its figures mean nothing.
    """
    users, days, seeds = (1_000, 14, 2) if quick else (USERS, DAYS, SEEDS)

    def tell(done: int, total: int) -> None:
        sys.stderr.write(f"\rsimulator: {done} of {total} lives")

    started = time.perf_counter()
    setting = Setting(read_catalog_files(CATALOG), users, days)
    found = compare(setting, seeds=range(1, seeds + 1), progress=tell).to_json()
    sys.stderr.write("\n")
    kept = ("captured_share", "vs_propensity_argmax", "vs_lints", "vs_vw", "exploration_cost")
    figures = {name: found.pop(name) for name in kept if name in found}
    return {**figures, "simulator": {**found, "seconds": round(time.perf_counter() - started, 1)}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure("--quick" in sys.argv), indent=1) + "\n")
