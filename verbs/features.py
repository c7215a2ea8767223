"""`segue features`: build and publish what is known about users."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from stores.home import Home
from terminal import Steps
from verbs.feature_catalogue import feature_catalogue
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.publishing import publishing
from verbs.telling import people, show
from workbench import load_catalog_of

features = group("What is known about users: its catalogue, its snapshots, and the online store's.")
features.add_typer(feature_catalogue)
features.add_typer(publishing)


@features.command("build", epilog="Example: segue features build; segue features build --as-of 2026-11-15")
def features_build(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="As of this moment of the past (UTC); the current snapshot stays.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a snapshot: the values of the catalog's features for all users, as of the end of the data."""
    from features.schema import Schema
    from features.snapshots import build_snapshot

    where = Home(home)
    schema = Schema.of(load_catalog_of(where, catalog).features)
    with Steps(people).step("features", "Build the feature snapshot"):
        moment = as_of and as_of.replace(tzinfo=UTC)
        snapshot = build_snapshot(where.data, where.snapshots, schema=schema, as_of=moment, make_current=moment is None)
    show({"snapshot": snapshot.id, "as_of": snapshot.manifest["as_of"], "users": snapshot.rows}, as_json)
