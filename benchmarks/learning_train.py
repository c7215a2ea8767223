"""How long training takes on a million decisions, in how much memory, and what it finds on Hillstrom's trial.

    python -m benchmarks.learning_train [--quick]

SEGUE_HILLSTROM names the trial's CSV; without it, its figures are left out.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from decisioning.domain import NOTHING
from stores.home import Home
from stores.tables import Tables

ROWS, FEATURES, ARMS, SEED = 1_000_000, 60, ("a", "b", "c", "d", NOTHING), 0
QUICK_ROWS = 20_000
SEEDS, FOLDS = range(5), 5
CONFIGS = {"hillstrom": "lightgbm", "hillstrom_plain": "lightgbm_plain"}
"""What is held against the best single offer: the default, and LightGBM as it comes with λ = 1."""


def measure(quick: bool = False) -> dict[str, float | dict]:
    """`train_1m_s` and `train_1m_peak_gb` (of `segue train`: reading, cross-fitting, evaluating, registering), and by
    config the pooled differences to the best single offer on Hillstrom."""
    rows = QUICK_ROWS if quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        _say(f"making {rows:,} decisions with {FEATURES} features")
        make(Path(folder), rows)
        _say("training on them")
        found: dict[str, float | dict] = dict(_in_a_process_of_its_own(Path(folder)))
    trial = os.environ.get("SEGUE_HILLSTROM")
    if trial:
        for name, config in CONFIGS.items():
            _say(f"{config} on Hillstrom, {len(SEEDS)} seeds")
            found[name] = hillstrom(Path(trial), config, SEEDS[:1] if quick else SEEDS)
    return found


def make(folder: Path, rows: int) -> None:
    """A home with a million decisions: 50 numbers, 6 flags and 4 enums; four offers and NOTHING, unevenly drawn."""
    rng = np.random.default_rng(SEED)
    numbers = {f"number_{k:02d}": rng.normal(size=rows).astype(np.float32).astype(float) for k in range(50)}
    flags = {f"flag_{k}": pd.array(rng.random(rows) < 0.3, dtype="boolean") for k in range(6)}
    values = np.array(["north", "south", "east", "west"])
    enums = {f"place_{k}": pd.array(values[rng.integers(0, 4, rows)], dtype="string") for k in range(4)}
    numbers["number_00"][rng.random(rows) < 0.1] = np.nan
    eager = np.nan_to_num(numbers["number_00"]) > 0
    shares = np.where(eager[:, None], [0.35, 0.25, 0.2, 0.1, 0.1], [0.1, 0.2, 0.25, 0.35, 0.1])
    shown = (rng.random(rows)[:, None] > shares.cumsum(axis=1)).sum(axis=1).clip(max=4)
    likes = np.where(numbers["number_01"] > 0, shown == 0, shown == 1)
    p = 0.02 + 0.02 * eager + 0.01 * (shown < 4) + 0.02 * likes
    bought = np.flatnonzero(rng.random(rows) < p)
    ids = pd.array(np.char.add("d", np.arange(rows).astype(str)), dtype="string")
    start = pd.Timestamp("2026-01-01", tz="UTC")
    at = start + pd.to_timedelta(np.sort(rng.random(rows)) * 60 * 86_400, unit="s")
    decisions = pd.DataFrame(
        {
            "decision_id": ids,
            "user_id": pd.array(np.char.add("u", rng.integers(0, rows // 2, rows).astype(str)), dtype="string"),
            "at": at,
            "surface": pd.array(np.repeat("home", rows), dtype="string"),
            "offer": pd.array(np.array(ARMS)[shown], dtype="string"),
            "probability": shares[np.arange(rows), shown],
        }
    )
    outcomes = pd.DataFrame(
        {
            "event_id": pd.array(np.char.add("e", bought.astype(str)), dtype="string"),
            "decision_id": ids[bought],
            "type": pd.array(np.repeat("convert", len(bought)), dtype="string"),
            "value": pd.array([None] * len(bought), dtype="Float64"),
            "at": at[bought] + pd.Timedelta(days=1),
        }
    )
    facts = pd.DataFrame({"decision_id": ids, **numbers, **flags, **enums})
    home = Home(folder / "home")
    Tables(facts, decisions, outcomes, {"source": "benchmark", "as_of": "2026-04-01T00:00:00Z"}).write(home.data)
    home.catalog.mkdir(parents=True)
    for name, text in _catalog(numbers, flags, enums).items():
        (home.catalog / name).write_text(text)


def _catalog(*kinds: dict) -> dict[str, str]:
    types = ("float", "bool", "enum, values: [north, south, east, west]")
    features = [f"  {name}: {{type: {kind}}}\n" for kind, names in zip(types, kinds, strict=True) for name in names]
    offer = "  {}: {{owner: pm, group: all, surfaces: [home], score: {{model: bench, value: 1}}}}\n"
    return {
        "features.yaml": "features:\n" + "".join(features),
        "surfaces.yaml": "surfaces:\n  home: {slots: 1, fallback: null, allow_nothing: true}\n"
        "groups:\n  all: {converts_on: convert, within: 14d}\n",
        "offers.yaml": "offers:\n" + "".join(offer.format(name) for name in ARMS[:-1]),
    }


def _in_a_process_of_its_own(folder: Path) -> dict[str, float]:
    """Wall time and peak memory of the whole run, imports included."""
    program = (
        "import sys; from pathlib import Path; from stores.home import Home; from training.train import train; "
        "from workbench import load_catalog_of; home = Home(Path(sys.argv[1])); "
        "train(home, load_catalog_of(home, None), seed=0)"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, str(folder / "home")], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return {"train_1m_s": round(seconds, 1), "train_1m_peak_gb": round(peak, 2)}


def hillstrom(trial: Path, config: str, seeds: range) -> dict[str, dict]:
    """By outcome, the pooled paired difference to the best single offer, with its interval."""
    from evaluation.values.pooling import pooled_differences
    from training.config import read_config
    from training.importers.hillstrom import import_hillstrom
    from training.prepare import cross_fit, gather
    from workbench import load_catalog_of

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        import_hillstrom(home, trial)
        catalog = load_catalog_of(home, None)
        chosen = read_config(config)
        _, logged, encoding = gather(home, catalog, catalog.models[0], chosen, FOLDS)
        fits = (cross_fit(logged, encoding, chosen, folds=FOLDS, seed=seed) for seed in seeds)
        return {name: found.to_json() for name, found in pooled_differences(fits).items()}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="How fast training is, and what it finds on a real trial.")
    words.add_argument("--quick", action="store_true", help="a small table and one seed")
    print(json.dumps(measure(words.parse_args().quick), indent=1))
