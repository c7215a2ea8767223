"""`segue logs`: compact, ship, prune and look at what was decided and what followed."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.telling import people, show
from workbench import load_catalog_of

logs = group("Compact, ship and prune the logs of decisions and events.")

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


@logs.command("compact", epilog="Example: segue logs compact")
def logs_compact(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the segments on disk; they count no more.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Turn sealed segments into Parquet, a folder per day: each record once, by time, with columns for analysts.

    Everything that reads the log goes on as if nothing had happened. Running it again merges what came late.
    """
    from stores.home_logs import compact_logs

    with Steps(people).step("compact", "Compact the logs (megabytes)") as progress:
        done = compact_logs(Home(home), keep=keep, progress=progress)
    show({name: asdict(one) for name, one in done.items()}, as_json)


@logs.command("ship", epilog="Example: segue logs ship --to kafka://broker:9092/segue --settings kafka.properties")
def logs_ship(
    to: Annotated[
        str, typer.Option(help="A folder, s3://… or gs://…, kafka://host:port/topic, or pubsub://project/topic.")
    ],
    settings: Annotated[
        Path | None, typer.Option(help="A file of name=value lines for Kafka's client: credentials, for example.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a batch may take.")] = 30.0,
    forget: Annotated[bool, typer.Option("--forget", help="Send nothing, and wait for this place no more.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send the sealed segments that a place has not had yet, in order, each line at least once.

    What was acknowledged is noted; where the place is down, the rest is sent the next time.
    """
    from stores.home_logs import forget_shipping, ship_logs

    where = Home(home)
    if forget:
        show({"to": to, "forgotten": forget_shipping(where, to)}, as_json)
        return
    with Steps(people).step("ship", f"Ship to {to} (segments)") as progress:
        done = ship_logs(where, to, settings=settings, timeout=timeout, progress=progress)
    show(asdict(done), as_json)


@logs.command("prune", epilog="Example: segue logs prune --older-than 90d --dry-run")
def logs_prune(
    older_than: Annotated[str, typer.Option(help="A time such as 90d or 12w: whole days that are older go.")],
    dry_run: DryRunOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also days that conversions may still come from, by the catalog's windows.")
    ] = False,
    catalog: CatalogOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Drop whole days (UTC) of the logs, compacted or not; never today's."""
    from evaluation.recorded.traffic import read_last
    from stores.home_logs import prune_logs

    where = Home(home)
    span, _ = read_last(older_than)
    if span is None:
        raise UserError(f"--older-than takes a time such as 90d or 12w, and not {older_than}.")
    rules = load_catalog_of(where, catalog)
    old = prune_logs(where, span, rules, now=time.time(), dry_run=dry_run, force=force)
    gone: list[dict[str, Any]] = [asdict(one) for one in old if not one.stays]
    staying = [asdict(one) for one in old if one.stays]
    told: dict[str, Any] = {"would_go" if dry_run else "gone": gone, "stays": staying}
    if not as_json:
        told = {
            name: [f"{one['log']} {one['name']}: {one['size']:,} bytes {one['stays']}" for one in rows]
            for name, rows in told.items()
        }
    show(told, as_json)


@logs.command("status", epilog="Example: segue logs status")
def logs_status(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """What there is: segments, compacted days, lines that could not be written, how far each place was sent."""
    from stores.log_status import log_status, shipments

    where = Home(home)
    told: dict[str, Any] = {name: asdict(one) for name, one in log_status(where.logs).items()}
    show({**told, "shipped": shipments(where.logs)}, as_json)
