"""`segue features refresh`: values that a stream job knows before the next snapshot does."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, RedisOption, group
from verbs.telling import people, show
from workbench import catalog_in_use, online_store

refreshing = group()


@refreshing.command("refresh", epilog="Example: segue features refresh values.jsonl")
def features_refresh(
    file: Annotated[Path, typer.Argument(help="JSON lines: user_id, at, and values by feature.")],
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store values fresher than the snapshot's, until the next snapshot knows better: all lines, or none."""
    from features.schema import Schema
    from stores.publishing.refreshing import refresh_from

    where = Home(home)
    schema = Schema.of(catalog_in_use(where, catalog).features)
    with online_store(where, redis_url) as url, Steps(people).step("refresh", "Store fresh values") as bar:
        told = refresh_from(file, url, where.namespace, schema, where.secret(), time.time(), bar)
    show(asdict(told), as_json)
