"""`segue features`: build and publish what is known about users."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from verbs.feature_catalogue import feature_catalogue
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.publishing import publishing
from verbs.refreshing import refreshing
from verbs.telling import people, show
from workbench import load_catalog_of

if TYPE_CHECKING:
    from features.snapshots import Snapshot

DAY = ["%Y-%m-%d"]

features = group("What is known about users: its catalogue, its snapshots, and the online store's.")
features.add_typer(feature_catalogue)
features.add_typer(publishing)
features.add_typer(refreshing)


@features.command(
    "build", epilog="Example: segue features build; segue features build --from 2026-11-01 --to 2026-11-07"
)
def features_build(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="As of this moment of the past (UTC); the current snapshot stays.")
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=DAY, help="One as of the start of each day from this one; the current stays."),
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=DAY, help="The last of these days.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read all events, whatever an earlier build has left.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a snapshot: the values of the catalog's features for all users, as of the end of the data."""
    from features.schema import Schema
    from features.snapshots import build_days, build_snapshot

    if (first is None) != (last is None) or (first is not None and as_of is not None):
        raise UserError("Days are given by --from and --to together, and instead of --as-of.")
    where = Home(home)
    schema = Schema.of(load_catalog_of(where, catalog).features)
    if first is not None and last is not None:
        with Steps(people).step("features", "Build the feature snapshots") as progress:
            days = (first.date(), last.date())
            built = build_days(where.data, where.snapshots, *days, schema=schema, full=full, progress=progress)
        show({"snapshots": [snapshot.id for snapshot in built]}, as_json)
        return
    with Steps(people).step("features", "Build the feature snapshot"):
        moment, started = as_of and as_of.replace(tzinfo=UTC), time.time()
        snapshot = build_snapshot(
            where.data, where.snapshots, schema=schema, as_of=moment, make_current=moment is None, full=full
        )
    show(_about(snapshot) if as_json else _for_people(snapshot, started), as_json)


@features.command("backfill", epilog="Example: segue features backfill minutes_90d days_since_last_follow --daily")
def features_backfill(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Features that are defined.")],
    home: HomeOption = DEFAULT_HOME,
    daily: Annotated[
        bool, typer.Option("--daily", help="As of the start of the decision's day (UTC), as a nightly snapshot tells.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Compute anew what the facts have already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add features to the facts of past decisions, as they were then, so that a model can learn from them now."""
    from features.backfill import backfill

    with Steps(people).step("backfill", "Compute the features as of each decision"):
        found = backfill(Home(home).data, names, daily=daily, replace=replace)
    show({"rows": found.rows, "known": dict(found.known)}, as_json)


def _about(snapshot: "Snapshot") -> dict[str, Any]:
    """What a person wants to know of a new snapshot, above all what is not in it."""
    told = {"snapshot": snapshot.id, "as_of": snapshot.manifest["as_of"], "users": snapshot.rows}
    extra = {name: snapshot.manifest.get(name) for name in ("built", "left_out", "missing_days")}
    return told | {name: value for name, value in extra.items() if value}


def _for_people(snapshot: "Snapshot", started: float) -> dict[str, Any]:
    """The same, with the way in which it was built in words."""
    from features.snapshot_files import MANIFEST

    told = _about(snapshot)
    if built := told.get("built"):
        how = f"in full, because {built['because']}" if built["how"] == "full" else f"going on from {built['from']}"
        told["built"] = f"{how}; {built['events_read']:,} events read"
    if (snapshot.path / MANIFEST).stat().st_mtime < started:
        told["built"] = "before, from the same data by the same code: nothing to do"
    return told
