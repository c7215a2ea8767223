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

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.simulator.simulation import Simulation, explorer
from features.definitions import SCHEMA
from features.schema import Schema
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
    can't be read or reads other features, for one under whose rules nothing could be shown, and for a home that holds
    another catalog.
    """
    files = read_catalog_files(catalog)
    rules = load_catalog(files)
    _check_home(files, rules, home.catalog)
    home.path.mkdir(parents=True, exist_ok=True)  # better now than after a minute's work
    end = datetime.combine(until or datetime.now(UTC).date(), datetime.min.time(), UTC)
    started = time.perf_counter()
    run = Simulation(explorer(rules), users, days, seed, end)
    for day in range(days):
        run.one_day(day)
        if progress:
            progress(day + 1, days)
    run.seconds["days"] = time.perf_counter() - started
    tables, truth = run.tables(), run.truth_frame()
    events = run.event_table()
    tables.write(home.data, extra={"users": run.listeners(), "events": events, "truth": truth})
    _copy_catalog(files, home.catalog)
    run.seconds["total"] = time.perf_counter() - started
    return SimulationResult(tables, truth, events.num_rows, run.values(), run.seconds)


def _check_home(files: Mapping[str, bytes], catalog: Catalog, target: Path) -> None:
    """Listeners have certain features, and somebody's own catalog in the work folder must not be lost."""
    foreign = sorted(set(Schema.of(catalog.features).names) - set(SCHEMA.names))
    if foreign:
        raise UserError(
            f"The catalog reads {foreign[0]}, which simulated listeners don't have: simulate into another --home, "
            "or name another --catalog."
        )
    if target.is_dir() and any(target.iterdir()) and read_catalog_files(target) != files:
        raise UserError(
            f"{target} holds another catalog, which would be lost: leave --catalog out to simulate under that one, "
            "or use another --home."
        )


def _copy_catalog(files: Mapping[str, bytes], target: Path) -> None:
    if target.is_dir():
        return  # it has been compared
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
