"""`segue simulate`: policies compared in a world of which the truth is known."""

from typing import Annotated

import typer
from rich.console import Console

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.telling import people, show
from workbench import catalog_folder

simulating = group()


@simulating.command(epilog="Example: segue simulate --policies all --seeds 10 --json")
def simulate(
    policies: Annotated[str, typer.Option(help="all, or names separated by commas.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many worlds, each from a seed: 1, 2, …")] = 10,
    users: Annotated[int, typer.Option(min=500, help="How many listeners a world has.")] = 20_000,
    days: Annotated[int, typer.Option(min=1, max=365, help="How many days are compared, after a warm-up.")] = 42,
    config: Annotated[str, typer.Option(help="How ours is trained: a file in TOML, or the name of one.")] = "pooled",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare policies in simulated worlds of known truth: what each earns, and how far from the best possible.

    Nothing is read from the home but its catalog, and nothing is written.
    """
    from evaluation.arena.comparison import Setting, chosen_policies, compare
    from evaluation.arena.policies import Recipe
    from stores.catalog_files import read_catalog_files
    from training.config import read_config
    from verbs.simulate_words import comparison_lines, comparison_table, figures_table

    read = read_config(config)
    recipe = Recipe(read.learner, read.params, read.calibration, read.shrinkage, read.positives == "delay_weighted")
    names = chosen_policies(policies)
    setting = Setting(read_catalog_files(catalog_folder(Home(home), catalog)), users, days, recipe)
    what = f"Compare {len(names)} policies in {seeds} worlds of {users:,} listeners"
    with Steps(people).step("simulate", what) as progress:
        found = compare(setting, names, range(1, seeds + 1), workers=workers, progress=progress)
    for line in comparison_lines(found):
        people.print(line, highlight=False, soft_wrap=True)
    if as_json:
        show(found.to_json(), as_json)
        return
    out = Console()
    out.print(comparison_table(found))
    if found.figures:
        out.print(figures_table(found))
