"""`segue features`: build and publish what is known about users."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, RedisOption, group
from verbs.telling import people, show
from workbench import load_catalog_of, online_store

features = group("Build and publish what is known about users.")


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


@features.command("publish", epilog="Example: segue features publish --redis-url redis://127.0.0.1:6379")
def features_publish(
    home: HomeOption = DEFAULT_HOME, redis_url: RedisOption = None, as_json: JsonOption = False
) -> None:
    """Publish the current snapshot to the online store: all of it, or nothing."""
    from workbench import publish_features

    where = Home(home)
    with online_store(where, redis_url) as url, Steps(people).step("publish", "Publish the features") as progress:
        published = publish_features(where, url, progress)
    show(published, as_json)
