"""`segue logs`: compact, ship, prune and look at what was decided and what followed."""

import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, group
from verbs.telling import people, show
from workbench import load_catalog_of

if TYPE_CHECKING:
    from stores.log.compaction import Compacted
    from stores.log.status import LogStatus

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

    with Steps(people).step("compact", "Compact the logs", "megabytes") as progress:
        done = compact_logs(Home(home), keep=keep, progress=progress)
    show({name: asdict(one) for name, one in done.items()} if as_json else dict(_compacted(done)), as_json)


def _compacted(done: "dict[str, Compacted]") -> Iterator[tuple[str, str]]:
    for name, one in done.items():
        told = f"{one.segments} segments; {len(one.days)} days written, {one.lines:,} lines in them"
        for count, what in ((one.duplicates, "duplicates left out"), (one.erased, "lines of erased users left out")):
            told += f"; {count:,} {what}" if count else ""
        yield name, told + (f"; {one.waiting} segments stay on disk" if one.waiting else "")


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
    from stores.log.sinks import address_of
    from stores.log.status import log_status, shipments

    where, told = Home(home), address_of(to)
    if forget:
        forgotten = forget_shipping(where, to)
        show({"to": told, "forgotten": forgotten}, as_json)
        if not forgotten:
            there = ", ".join(sorted({one["to"] for one in shipments(where.logs)})) or "none"
            people.print(f"[yellow]Nothing was shipped there.[/yellow] Places are: {escape(there)}", soft_wrap=True)
        return
    known = {one["to"] for one in shipments(where.logs)}
    with Steps(people).step("ship", f"Ship to {told}", "segments") as progress:
        done = ship_logs(where, to, settings=settings, timeout=timeout, progress=progress)
    show(asdict(done), as_json)
    early = sum(one.lines for one in log_status(where.logs).values())
    if early and done.to not in known:
        people.print(
            f"[yellow]Warning:[/yellow] {early:,} lines were compacted before anything was shipped to this place, and "
            f"are not sent: copy {escape(str(where.logs / 'tables'))} there.",
            highlight=False,
            soft_wrap=True,
        )


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
    if not re.fullmatch(r"[1-9][0-9]{0,4}[dw]", older_than):
        raise UserError(f"--older-than takes a time such as 90d or 12w, and not {older_than}.")
    span = read_last(older_than)[0]
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
    from stores.log.status import log_status, shipments

    where = Home(home)
    found, sent = log_status(where.logs), shipments(where.logs)
    if as_json:
        show({**{name: asdict(one) for name, one in found.items()}, "shipped": sent}, as_json)
        return
    show({name: "".join(f"\n  {line}" for line in _status_words(one)) for name, one in found.items()}, as_json)
    told = [
        f"{one['log']} to {one['to']}: {one['lines']:,} lines, the last {one['last'] or 'never'}; "
        f"{one['waiting']} segments wait"
        for one in sent
    ]
    show({"shipped": told}, as_json)


def _status_words(one: "LogStatus") -> Iterator[str]:
    yield f"{one.open_segments} segments open, {one.sealed_segments} sealed: {_megabytes(one.segment_bytes)}"
    days = f", {one.first_day} to {one.last_day}" if one.days else ""
    size = f"{_megabytes(one.parquet_bytes)} of Parquet for {_megabytes(one.line_bytes)} of lines"
    yield f"{one.days} days compacted{days}: {one.lines:,} lines, {size}"
    if one.kept_segments:
        yield f"{one.kept_segments} segments are compacted and still on disk"
    if one.dropped:
        yield f"{one.dropped:,} lines could not be written, the last {one.dropped_last}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
