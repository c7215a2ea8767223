"""`segue tune`: which parameters a learner does best with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stores.home import Home
from terminal import Steps
from verbs.options import (
    DEFAULT_HOME,
    CatalogOption,
    EngineOption,
    HomeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkersOption,
    group,
)
from verbs.telling import people, show
from workbench import load_catalog_of

tuning = group()
MOST_SHOWN = 10
"""Trials in the table, the best first."""


@tuning.command(epilog="Example: segue tune --config lightgbm --trials 40 --minutes 30")
def tune(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    config: Annotated[
        Path | None, typer.Option(help="A learner's configuration in TOML that says what to search.")
    ] = None,
    trials: Annotated[int, typer.Option(help="How many to try; the first one is the config as it is.")] = 30,
    minutes: Annotated[float | None, typer.Option(min=0, help="After so many, no further trial begins.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the config goes; default: MODEL-tuned.toml in --home.")
    ] = None,
    seed: SeedOption = 0,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for parameters on the earlier decisions, and judge what is found on the later ones.

    Writes a config for `segue train --config`. Ctrl-C ends the search, and keeps what it has found by then.
    """
    from scaling.engines import engine_of
    from training.tuning import tune

    where = Home(home)
    searching = {"model": model, "config": config, "trials": trials, "minutes": minutes, "seed": seed, "out": out}
    with Steps(people).step("tune", "Search for parameters") as progress, engine_of(engine, workers) as working:
        found = tune(where, load_catalog_of(where, catalog), **searching, engine=working, progress=progress)
    if as_json:
        show(found.to_json(), as_json)
        return
    console = Console(highlight=False)
    console.print(_table(found.found))
    for sentence in (*_words(found.found), f"Train with it: segue train --config {found.config}"):
        console.print(sentence, soft_wrap=True)


def _table(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"{found['trials']} trials of the {found['learner']}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("log loss", justify="right")
    names = list(found["before"])
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    tried = [one for one in found["table"] if one["loss"] is not None]
    for one in sorted(tried, key=lambda one: one["loss"])[:MOST_SHOWN]:
        remark = "as it is" if one["params"] == found["before"] else ""
        table.add_row(f"{one['loss']:.5f}", *(_figure(one["params"][name]) for name in names), remark)
    return table


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(found: Mapping[str, Any]) -> list[str]:
    later = found["held_out"]
    told = [f"Stopped before all trials were done: {found['stopped']}."] if found["stopped"] else []
    told.append(
        "The best is better by more than one standard error, and is written down."
        if found["is_better"]
        else "None is better by more than one standard error: the config is written down as it was."
    )
    told.append(
        f"On {later['decisions']:,} {later['how']} that the search did not see, the best trial has a log loss of "
        f"{later['after']:.5f}; the config as it was {later['before']:.5f} (gain {later['gain']:+.5f}, 95 % interval "
        f"{later['low']:+.5f} to {later['high']:+.5f})." + ("" if later["low"] > 0 else " That shows no gain.")
    )
    return told
