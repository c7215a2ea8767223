"""`segue train | evaluate | promote | challenge | rollback`: from logs to a model in use, and back."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from decisioning.errors import UserError
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
    WhyOption,
    WorkersOption,
    group,
)
from verbs.telling import people, show, who
from workbench import catalog_folder, load_catalog_of

if TYPE_CHECKING:
    from scaling.engines import Engine

learning = group()


@learning.command(epilog="Example: segue train --seed 1")
def train(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    config: Annotated[Path | None, typer.Option(help="A learner's configuration in TOML.")] = None,
    seed: SeedOption = 0,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a model, hold it against the best single offer, and register it in MLflow as the challenger.

    On Ray, LightGBM is trained by all workers together. What can't be is fitted fold beside fold.
    """
    from training.train import train

    where = Home(home)
    with (
        Steps(people).step("train", "Train, cross-fit and register") as progress,
        fitting_on(engine, workers) as fitting,
    ):
        found = load_catalog_of(where, catalog)
        result = train(where, found, model=model, config=config, seed=seed, engine=fitting, progress=progress)
    show_policy_values(result.to_json(), as_json)
    if engine == "ray" and result.metrics["ranks"] == 1:
        people.print(
            f"{result.metrics['learner']} can't be fitted by workers together: each fit was done whole, on one of them."
        )


@learning.command(epilog="Example: segue evaluate --version 3")
def evaluate(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    version: Annotated[str | None, typer.Option(help="A number, champion or challenger; default: challenger.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Draws the folds; default: as in its training.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Where the page goes; default: report.html in --home.")
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """The value of each policy on the recorded decisions, cross-fitted, with intervals; pictures in report.html."""
    from training.evaluate import evaluate

    where = Home(home)
    judging = {"model": model, "version": version, "seed": seed, "report": report}
    with Steps(people).step("evaluate", "Evaluate the policies") as progress, fitting_on(engine, workers) as fitting:
        result = evaluate(where, load_catalog_of(where, catalog), **judging, engine=fitting, progress=progress)
    show_policy_values(result.to_json(), as_json)
    if not as_json:
        show_findings(result.to_json())
    people.print(f"Open {result.report} in a browser: pictures, segments, and what may be believed.", soft_wrap=True)


@learning.command(epilog="Example: segue promote --version 3 --why 'better on the premium markets'")
def promote(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    version: Annotated[
        str | None, typer.Option(help="Default: the challenger; where none waits, the model in use.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote against the evidence; needs --why.")] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a release of the catalog and a model that has shown its worth, and point the servers to it."""
    from stores.catalog_files import read_catalog_files
    from training.promote import promote

    where = Home(home)
    files = read_catalog_files(catalog_folder(where, catalog))
    with Steps(people).step("promote", "Check the evidence and publish a release") as progress:
        promoted = promote(
            where, files, model, version, who=who(), why=why, force=force, now=time.time(), progress=progress
        )
    show(promoted.to_json(), as_json)


@learning.command(epilog="Example: segue challenge --version 3 --share 0.05 --why 'hears of concerts'")
def challenge(
    home: HomeOption = DEFAULT_HOME,
    model: ModelOption = None,
    version: Annotated[str | None, typer.Option(help="A number or alias; default: the challenger.")] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Of the decisions, to show its choice in; 0: none (shadow). Default: as the catalog says."),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Take the challenger out again.")] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a version score live traffic beside the champion: unseen, or shown in a share of the decisions."""
    from training.shadowing import challenge, withdraw

    if end and (version, share) != (None, None):
        raise UserError("--end takes out whatever challenges: it goes without --version and --share.")
    if not why.strip():
        raise UserError("Say why, for the record, with --why.")
    if end:
        before, after = withdraw(Home(home), who=who(), why=why, now=time.time())
        show({"from": before, "to": after}, as_json)
        return
    made = challenge(Home(home), model, version, share, who=who(), why=why, now=time.time())
    show(made.to_json(), as_json)


@learning.command(epilog="Example: segue rollback --why 'conversions fell in Brazil'")
def rollback(home: HomeOption = DEFAULT_HOME, why: WhyOption = "", as_json: JsonOption = False) -> None:
    """Point the servers to the release before the current one."""
    from training.rollback import rollback

    before, after = rollback(Home(home), who=who(), why=why, now=time.time())
    show({"from": before, "to": after}, as_json)


def fitting_on(engine: str, workers: int | None) -> AbstractContextManager["Engine"]:
    """Here, models are fitted one after the other, on all cores each, unless workers are asked for."""
    from scaling.engines import LOCAL, engine_of

    return engine_of(engine, 1 if workers is None and engine == LOCAL else workers)


def show_findings(result: dict[str, Any]) -> None:
    """What `evaluate` adds: the estimators that may only rank, and what was found, in words."""
    from evaluation.report.words import summary
    from terminal import ranking_table

    out, told = Console(highlight=False), summary(result)
    out.print(ranking_table(result["policy_values"], result["objective"]))
    for heading, sentences in (("What was found", told.found), ("What may not be believed", told.doubtful)):
        out.print(f"[bold]{heading}[/bold]")
        for sentence in sentences:
            out.print(f"• {escape(sentence)}", soft_wrap=True)


def _asides(result: dict[str, Any]) -> Iterator[str]:
    """What else is to be known of how these figures came about."""
    if result.get("retired"):
        names = ", ".join(result["retired"])
        yield f"Shown in the log and no longer in the catalog, so that no policy here may choose them: {names}."
    later = result.get("time_ordered")
    if isinstance(later, dict):
        ends = f"{later['diff_low']:+.4g} to {later['diff_high']:+.4g}"
        yield (
            f"Trained on the earlier decisions, judged on {later['judged']:,} later ones: {later['diff']:+.4g} to the "
            f"best single offer of that time (95 % interval {ends})."
        )
    elif later is not None:
        yield f"Trained on the earlier decisions, judged on the later ones: {later}."


def show_policy_values(result: dict[str, Any], as_json: bool) -> None:
    """What `train` and `evaluate` found: a table per outcome, then what to make of it."""
    from terminal import outcomes_of, policy_table

    if as_json:
        show(result, as_json)
        return
    out = Console()
    for outcome in outcomes_of(result):
        out.print(policy_table(result["policy_values"], outcome))
    out.print(f"best_single_offer is the best by {result['objective']}. {result.get('says', '')}", soft_wrap=True)
    if result["immature"]:
        out.print(
            f"{result['immature']:,} more decisions are too young to judge: the longest time that groups on their "
            "surface give a conversion (`within` in the catalog) has not passed.",
            soft_wrap=True,
        )
    for sentence in _asides(result):
        out.print(sentence, soft_wrap=True)
    kept = ("model", "version", "decisions", "users", "conversions", "shrinkage", "ece", "auc", "seed")
    show({name: result[name] for name in kept if name in result}, as_json)
