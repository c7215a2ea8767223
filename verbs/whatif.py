"""`segue whatif` and `segue catalog lever`: what a change would have done to the decisions that were recorded."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stores.home import Home
from terminal import Steps
from verbs.catalog import catalog as catalog_verbs
from verbs.options import DEFAULT_HOME, HomeOption, JsonOption, LastOption, ModelOption, group
from verbs.telling import people, show

whatif_verbs = group()


@whatif_verbs.command(epilog="Example: segue whatif --catalog my-catalog --last 7d --fail-if 'nothing>1%'")
def whatif(
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="The folder of the changed catalog; default: that of the base.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", "--model-version", help="Another model: a number, champion or challenger."),
    ] = None,
    model: ModelOption = None,
    last: LastOption = "7d",
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Tell figures by a feature; repeatable. Default: market, tier.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A release's id, or recorded: what made each decision. Default: the one in use.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", help="Exit with 1 where this is so, such as changed>0.2; repeatable."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A short form for a pull request's comment.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Decide recorded traffic again under another catalog or model: what changes, for whom, and what it is worth.

    Exits with 0 where no threshold trips, 1 where one does, 2 where nothing could be asked.
    """
    from evaluation.whatif.asking import ask
    from evaluation.whatif.thresholds import read_threshold
    from verbs.recorded import known_offers, proposal_of
    from verbs.whatif_words import whatif_lines, whatif_markdown

    where = Home(home)
    proposal = proposal_of(where, catalog=catalog, model=model, version=version, against=against)
    offers = known_offers(proposal, where)
    thresholds = [read_threshold(text, offers) for text in fail_if or []]
    with Steps(people).step("whatif", "Decide again", "megabytes") as progress:
        found = ask(where.logs, proposal, last=last, by=by, progress=progress)
    verdicts = [threshold.verdict(found) for threshold in thresholds]
    if as_json:
        show({**found, "thresholds": [one.to_json() for one in verdicts]}, as_json)
    elif markdown:
        sys.stdout.write(whatif_markdown(found, verdicts))
    else:
        out = Console(highlight=False, soft_wrap=True)
        for line in whatif_lines(found, verdicts):
            out.print(line)
    if any(one.tripped for one in verdicts):
        raise typer.Exit(1)


@catalog_verbs.command("lever", epilog="Example: segue catalog lever premium_annual --share 10% --surface home_banner")
def catalog_lever(
    offer: Annotated[str, typer.Argument(help="The name of an offer.")],
    share: Annotated[str, typer.Option(help="The share of first places that it should have, such as 10% or 0.1.")],
    folder: Annotated[
        Path | None, typer.Argument(help="A draft of the catalog; default: that of the release in use.")
    ] = None,
    surface: Annotated[str | None, typer.Option(help="One surface; default: all that it stands on.")] = None,
    last: LastOption = "7d",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Which lever gives an offer a share of the decisions that were recorded, and who would pay for it."""
    from evaluation.whatif.lever_search import search
    from verbs.recorded import proposal_of, read_share
    from verbs.whatif_words import lever_lines

    where, wanted = Home(home), read_share(share)
    proposal = proposal_of(where, catalog=folder)
    with Steps(people).step("lever", "Search and decide again", "megabytes") as progress:
        found = search(where.logs, proposal, offer, wanted, surface=surface, last=last, progress=progress)
    if as_json:
        show(found, as_json)
        return
    out = Console(highlight=False, soft_wrap=True)
    for line in lever_lines(found):
        out.print(line)
