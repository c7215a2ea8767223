"""A month of listeners, events and randomly explored offers, of which the truth is known.

Day by day: features as of the start of the day by the definitions that serving uses, decisions by the engine that
serving uses, drawn evenly over what the rules leave, and what follows. The same arguments give the same tables.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from decisioning.catalog_yaml import load_catalog
from evaluation.simulation import Simulation, explorer
from stores.catalog_files import read_catalog_files
from stores.home import Home
from stores.tables import Tables

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SimulationResult:
    """What was simulated: sizes, rates and values of known policies, and how long it took."""

    tables: Tables
    truth: pd.DataFrame
    """`decision_id` and the true probability of each offer, by the offer's name; NaN where the rules forbade it."""
    events: int
    values: Mapping[str, float]
    """Net value a decision under the truth: random, best_single_offer, optimal."""
    seconds: Mapping[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """What the command line shows."""
        outcomes = self.tables.outcomes["type"].value_counts().to_dict()
        return {
            "decisions": len(self.tables.decisions),
            "events": self.events,
            "outcomes": outcomes,
            "conversion_rate": round(outcomes.get("convert", 0) / max(len(self.tables.decisions), 1), 4),
            "true_values": {name: round(value, 4) for name, value in self.values.items()},
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def simulate(
    home: Home,
    catalog: Path,
    *,
    users: int = 20_000,
    days: int = 30,
    seed: int = 1,
    until: date | None = None,
    progress: Progress | None = None,
) -> SimulationResult:
    """Simulate, and leave the dataset in `home.data` and the catalog folder's copy in `home.catalog`.

    `until` is the day (UTC) before whose start everything happens; None for today. Raises UserError for a catalog that
    can't be read, or one under whose rules nothing could be shown.
    """
    files = read_catalog_files(catalog)
    end = datetime.combine(until or datetime.now(UTC).date(), datetime.min.time(), UTC)
    started = time.perf_counter()
    run = Simulation(explorer(load_catalog(files)), users, days, seed, end)
    for day in range(days):
        run.one_day(day)
        if progress:
            progress(day + 1, days)
    run.seconds["days"] = time.perf_counter() - started
    tables, truth = run.tables(), run.truth_frame()
    events = run.event_table()
    tables.write(home.data, extra={"users": run.listeners(), "events": events, "truth": truth})
    _copy_catalog(catalog, home.catalog)
    run.seconds["total"] = time.perf_counter() - started
    return SimulationResult(tables, truth, events.num_rows, run.values(), run.seconds)


def _copy_catalog(source: Path, target: Path) -> None:
    """The YAML files of a folder in place of whatever was there."""
    if source.resolve() == target.resolve():
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        for name, content in read_catalog_files(source).items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
