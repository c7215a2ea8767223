"""`segue features list | explain | sql`: which features there are, what each is, and how other engines compute them."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from decisioning.errors import UserError
from stores.home import Home
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.telling import in_words, show
from workbench import current_release, load_catalog_of, snapshot_of

if TYPE_CHECKING:
    from features.catalogue import Entry

feature_catalogue = group()


@feature_catalogue.command("list", epilog="Example: segue features list --owner merch")
def features_list(
    owner: Annotated[str | None, typer.Option(help="Only the features of this owner.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The tables of docs/features.md.")] = False,
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """All features that are defined, and those that the catalog declares besides: the request's, and imported ones."""
    from features.catalogue import entries
    from features.catalogue_page import page_tables

    if markdown:
        sys.stdout.write(page_tables())
        return
    found = entries(load_catalog_of(Home(home), catalog).features)
    owners = sorted({one.owner for one in found if one.owner})
    if owner is not None and owner not in owners:
        raise UserError(f'No feature has the owner "{owner}". There are: {", ".join(owners)}.')
    chosen = [one for one in found if owner in (None, one.owner)]
    if as_json:
        show({"features": [one.to_json() for one in chosen]}, as_json)
        return
    Console(highlight=False).print(_table(chosen))


@feature_catalogue.command("explain", epilog="Example: segue features explain skips_limited_7d")
def features_explain(
    name: Annotated[str, typer.Argument(help="The name of a feature.")],
    sql: Annotated[bool, typer.Option("--sql", help="Also the SQL that DuckDB computes it by.")] = False,
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """All that is known of one feature: what it is, how it is computed, how it is distributed, and what reads it."""
    told = _explained(Home(home), catalog, name)
    if as_json:
        show(told, as_json)
        return
    if not sql:
        told.pop("sql", None)
    show({key.replace("_", " "): value for key, value in _for_people(told).items()}, as_json)


@feature_catalogue.command(
    "sql",
    epilog="Example: segue features sql --dialect bigquery --as-of 2026-11-22 --events lake.events > features.sql",
)
def features_sql(
    dialect: Annotated[str, typer.Option(help="duckdb, spark or bigquery.")],
    as_of: Annotated[datetime | None, typer.Option(help="All users, as of this moment (UTC).")] = None,
    observations: Annotated[
        str | None, typer.Option(help="Or a table of decision_id, user_id, as_of: the moments to tell them of.")
    ] = None,
    users: Annotated[str, typer.Option(help="The table of user_id, signup_at, born_at, market.")] = "users",
    events: Annotated[str, typer.Option(help="The table of user_id, at, type, item, amount, hour.")] = "events",
    feature: Annotated[
        list[str] | None, typer.Option(help="Only this one; repeatable. Default: the catalog's.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
) -> None:
    """The features as one query for DuckDB, Spark or BigQuery, for tables that lie there. A set is its bit mask."""
    from features.catalogue import entry
    from features.definitions import defined
    from features.engines import Sources
    from features.engines import features_sql as written

    declared = load_catalog_of(Home(home), catalog).features
    names = [entry(declared, name).name for name in feature or declared]
    chosen = defined(names)
    if uncomputed := {*(feature or ())} - {one.name for one in chosen}:
        raise UserError(f"{min(uncomputed)} is not computed from events: it comes with the request, or with an import.")
    sys.stdout.write(
        written(
            dialect,
            as_of=as_of and as_of.replace(tzinfo=as_of.tzinfo or UTC),
            sources=Sources(users, events, observations),
            features=chosen,
        )
    )


def _explained(home: Home, folder: Path | None, name: str) -> dict[str, Any]:
    """All that is known of a feature: declaration, definition, distribution in the current snapshot, and readers."""
    from features.catalogue import definition, entry, formula
    from features.definitions import defined
    from features.distribution import distribution
    from features.uses import uses
    from models.inputs import reading
    from stores.releases import ReleaseStore

    catalog = load_catalog_of(home, folder)
    found = entry(catalog.features, name)
    told = found.to_json()
    for feature in defined([name] if found.topic else []):
        told |= {"definition": definition(feature), "sql": formula(feature)}
    if (home.snapshots / "current").is_file():
        snapshot = snapshot_of(home, None)
        for spec in snapshot.schema.specs:
            if spec.name == name:
                told["snapshot"] = {"id": snapshot.id, **asdict(distribution(snapshot, spec))}
    told["rules"] = [use.to_json() for use in uses(catalog, name)]
    models = current_release(home).scorers.values() if ReleaseStore(home.releases).current() else ()
    told["models"] = [read.to_json() for model in models if (read := reading(model, name))]
    return told


def _table(found: "list[Entry]") -> Table:
    from features.catalogue import age_words

    table = Table(box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column(f"{len(found)} features", no_wrap=True)
    for heading in ("type", "max. age", "owner"):
        table.add_column(heading, no_wrap=True)
    table.add_column("meaning")
    for one in found:
        name = escape(one.name) if one.used else f"[dim]({escape(one.name)})[/dim]"
        cells = (str(one.spec.type), age_words(one.spec), one.owner, one.meaning or f"from {one.source}")
        table.add_row(name, *map(escape, cells))
    if any(not one.used for one in found):
        table.caption, table.caption_justify = "In brackets: defined, and not in this catalog.", "left"
    return table


def _for_people(told: dict[str, Any]) -> dict[str, Any]:
    """The same, with what is empty left out, and shares and rules as people read them."""
    from decisioning.words import duration

    age = told.pop("max_age_seconds")
    told = {key: value for key, value in told.items() if value not in (None, [], {})}
    told["max_age"] = duration(age) if age else "any"
    if found := told.pop("snapshot", None):
        told["snapshot"] = f"{found['id']}: {found['rows']:,} users, {found['missing']:.1%} missing"
        told["distribution"] = [f"{name}: {in_words(value)}" for name, value in found["numbers"].items()] + [
            f"{name}: {share:.1%}" for name, share in found["shares"].items()
        ]
    told["read_by"] = [f"{use['kind']} {use['name']}: {use['says']} ({use['place']})" for use in told.pop("rules", [])]
    models = told.pop("models", [])
    told["models"] = [f"{one['model']}: {one['splits']:,} of {one['of']:,} splits" for one in models]
    return told
