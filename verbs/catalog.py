"""`segue catalog`: check, test and read the product managers' rules."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.telling import people, show
from workbench import load_catalog_of

catalog = group("Check the product managers' rules.")


@catalog.command("check", epilog="Example: segue catalog check catalog/")
def catalog_check(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Every error of the YAML at once, each with its place; then the catalog's own tests; then warnings."""
    from decisioning.catalog_yaml import CatalogError
    from terminal import problem_words
    from workbench import check_catalog_of

    try:
        checked, failures, warnings = check_catalog_of(Home(home), folder, time.time())
    except CatalogError as error:
        if not as_json:
            raise
        show({"ok": False, "errors": [one.to_json() for one in error.problems], "warnings": []}, as_json)
        raise typer.Exit(2) from None
    counts = {name: len(getattr(checked, name)) for name in ("offers", "surfaces", "features", "experiments", "tests")}
    if as_json:
        errors = [one.to_json() for one in failures]
        told = {"errors": errors, "warnings": [one.to_json() for one in warnings]}
        show({"ok": not failures, "hash": checked.hash, **counts, **told}, as_json)
    else:
        for line in problem_words(failures, warnings):
            people.print(line, highlight=False, soft_wrap=True)
        if not failures:
            show({"ok": True, "hash": checked.hash, **counts, "warnings": len(warnings)}, as_json)
    if failures:
        raise typer.Exit(2)


@catalog.command("test", epilog="Example: segue catalog test catalog/")
def catalog_test(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run the catalog's own tests. Exits with 1 if one fails."""
    from decisioning.catalog_tests import run_tests

    checked = load_catalog_of(Home(home), folder)
    failures = run_tests(checked)
    failed = {(failure.test, failure.place) for failure in failures}
    for failure in () if as_json else failures:
        people.print(f"[red]Failed:[/red] {escape(str(failure))}", highlight=False, soft_wrap=True)
    told = {"failures": [one.to_json() for one in failures]} if as_json else {}
    show({"ok": not failures, "tests": len(checked.tests), "passed": len(checked.tests) - len(failed), **told}, as_json)
    if failures:
        raise typer.Exit(1)


@catalog.command("schema", epilog="Example: segue catalog schema catalog/ > .vscode/catalog.schema.json")
def catalog_schema_of(
    folder: Annotated[
        Path | None, typer.Argument(help="A catalog folder whose names are to be completed; default: any names.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write the JSON Schema (draft-07) of the catalog's files, for completion in editors."""
    from decisioning.catalog_schema import catalog_schema

    show(catalog_schema(None if folder is None else load_catalog_of(Home(home), folder)), as_json=True)


@catalog.command("words", epilog="Example: segue catalog words premium_annual --catalog catalog/")
def catalog_words(
    offer: Annotated[str, typer.Argument(help="The name of an offer.")],
    catalog: CatalogOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """All that the catalog says of an offer, as plain sentences."""
    from decisioning.sentences import sentences

    told = sentences(load_catalog_of(Home(home), catalog), offer)
    if as_json:
        show({"offer": offer, "sentences": list(told)}, as_json)
        return
    for sentence in told:
        Console(highlight=False, soft_wrap=True).print(escape(sentence))


@catalog.command("reach", epilog="Example: segue catalog reach my-catalog --surface paywall --context country=SE")
def catalog_reach(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="A feature snapshot's id, or its folder; default: the current one.")
    ] = None,
    surface: Annotated[str | None, typer.Option(help="One surface; default: all.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="name=value, as if every client sent it; repeatable.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """How many users each offer reaches on each surface, and which clause drops how many of the others."""
    from evaluation.reach import reach
    from terminal import reach_table
    from workbench import read_context, snapshot_of

    where = Home(home)
    checked, users = load_catalog_of(where, folder), snapshot_of(where, snapshot)
    sent = read_context(checked, context or [])
    with Steps(people).step("reach", f"Ask the rules of {users.rows:,} users") as progress:
        found = reach(checked, users, surface=surface, context=sent, progress=progress)
    if as_json:
        told = {"snapshot": users.id, "as_of": users.manifest["as_of"], "users": users.rows, "context": context or []}
        show({**told, "reach": [one.to_json() for one in found]}, as_json)
        return
    out = Console(highlight=False)
    for name in dict.fromkeys(one.surface for one in found):
        out.print(reach_table(name, [one for one in found if one.surface == name], users.rows))
