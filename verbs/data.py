"""`segue data`: bring in history to learn from, or simulate it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, LastOption, SeedOption, group
from verbs.telling import people, show
from workbench import catalog_folder

data = group("Bring in history to learn from.")
imports = group("Import recorded decisions and what followed them.")
data.add_typer(imports, name="import")


@data.command("simulate", epilog="Example: segue data simulate --users 20000 --seed 1")
def data_simulate(
    home: HomeOption = DEFAULT_HOME,
    users: Annotated[int, typer.Option(min=50, help="How many listeners.")] = 20_000,
    days: Annotated[int, typer.Option(min=7, max=120, help="How many days of history.")] = 30,
    seed: SeedOption = 1,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it ends; default: today.")
    ] = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a month of listeners, events and randomly explored offers."""
    from evaluation.simulator.tables import simulate

    where = Home(home)
    with Steps(people).step("simulate", f"Simulate {users:,} listeners over {days} days") as progress:
        result = simulate(
            where,
            catalog_folder(where, catalog),
            users=users,
            days=days,
            seed=seed,
            until=until.date() if until else None,
            progress=progress,
        )
    show({"home": str(home), **result.figures()}, as_json)


@imports.command("hillstrom", epilog="Example: segue data import hillstrom hillstrom.csv")
def data_import_hillstrom(
    file: Annotated[Path, typer.Argument(help="The CSV of the MineThatData e-mail challenge.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Import the Hillstrom e-mail trial: 64,000 customers, three randomised arms."""
    from training.importers.hillstrom import import_hillstrom

    with Steps(people).step("import", f"Import {file}"):
        rows = import_hillstrom(Home(home), file)
    show({"home": str(home), **rows}, as_json)


@imports.command(
    "tables",
    epilog="Example: segue data import tables --facts facts.csv --decisions decisions.csv --outcomes outcomes.csv",
)
def data_import_tables(
    facts: Annotated[Path, typer.Option(help="What was known: decision_id (or user_id, as_of), and the features.")],
    decisions: Annotated[Path, typer.Option(help="decision_id, user_id, at, surface, offer, probability, eligible.")],
    outcomes: Annotated[Path, typer.Option(help="event_id, decision_id, type, value, at.")],
    offers: Annotated[Path | None, typer.Option(help="offer, group, value, cost, and attributes of your own.")] = None,
    converts_on: Annotated[str | None, typer.Option(help="The outcome type that counts as a conversion.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Import anyone's own logs (CSV or Parquet) in the three-table contract; see docs/data.md."""
    from training.importers.tables import import_tables

    with Steps(people).step("import", "Check and import the three tables"):
        rows = import_tables(
            Home(home), facts=facts, decisions=decisions, outcomes=outcomes, offers=offers, converts_on=converts_on
        )
    show({"home": str(home), **rows}, as_json)


@imports.command("log", epilog="Example: segue data import log --last 30d")
def data_import_log(
    last: LastOption = "all",
    catalog: CatalogOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Import what `segue serve` decided here and what followed, to learn from; in place of the dataset before."""
    from training.importers.log import import_log
    from workbench import load_catalog_of

    where = Home(home)
    rules = load_catalog_of(where, catalog)
    with Steps(people).step("import", "Read the log", "megabytes") as progress:
        rows = import_log(where, rules, last=last, progress=progress)
    show({"home": str(home), **rows}, as_json)
