"""`segue drift`: whether features and scores are still what they were, and fresh."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, CatalogOption, HomeOption, JsonOption, LastOption, RedisOption, group
from verbs.telling import people, show
from workbench import load_catalog_of, snapshot_of

if TYPE_CHECKING:
    from features.drift_report import DriftReport

drifting = group()
COLORS = {"drifted": "red", "watch": "yellow", "ok": "green"}
MOST_ROWS = 20
"""How many rows the table has if nothing moved."""


@drifting.command(epilog="Example: segue drift; segue drift --log --last 7d --report drift.html")
def drift(
    before: Annotated[str | None, typer.Option("--from", help="A snapshot; default: the one before --to.")] = None,
    after: Annotated[str | None, typer.Option("--to", help="A snapshot; default: the current one.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Compare two windows of the decision log instead.")] = False,
    last: LastOption = "7d",
    until: Annotated[
        datetime | None, typer.Option(help="Look back from this moment (UTC); default: now, or a log's last decision.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write the report as HTML, with pictures.")] = None,
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold features and scores against what they were. Exits with 1 if one drifted beyond its limit or is stale.

    With --redis-url, the ages of snapshots are also those of what is published there.
    """
    if log and (before or after):
        raise UserError("--from and --to name snapshots, --log asks for the decision log: one of the two.")
    where, moment = Home(home), until.replace(tzinfo=UTC).timestamp() if until else None
    if log:
        found = _of_log(where, catalog, last, moment)
    else:
        found = _of_snapshots(where, before, after, time.time() if moment is None else moment, redis_url)
    if report:
        from evaluation.drift.page import drift_page

        report.write_text(drift_page(found), encoding="utf-8")
    if as_json:
        show(found.to_json(), as_json)
    else:
        tell(found)
    if not found.ok:
        raise typer.Exit(1)


def _of_snapshots(
    home: Home, before: str | None, after: str | None, now: float, redis_url: str | None
) -> "DriftReport":
    from features.snapshot_drift import pair, snapshot_drift, with_published
    from stores.publishing.publish import published

    ends = (snapshot_of(home, one) if one else None for one in (before, after))
    older, newer, earlier = pair(home.snapshots, *ends)
    with Steps(people).step("drift", f"Compare {newer.id} with {older.id}") as progress:
        found = snapshot_drift(older, newer, earlier, now=now, progress=progress)
    if redis_url is None:
        return found
    try:
        version = published(redis_url, namespace=home.namespace)
    except UserError:
        raise UserError("The online store can't be read: start it, or leave --redis-url and REDIS_URL out.") from None
    return with_published(found, newer.schema, version and (version.name, version.as_of), now)


def _of_log(home: Home, catalog: Path | None, last: str, until: float | None) -> "DriftReport":
    from evaluation.drift.log import recorded_drift

    rules = load_catalog_of(home, catalog)
    with Steps(people).step("drift", "Compare two windows of the log", "megabytes") as progress:
        return recorded_drift(home.logs / "decisions", rules, last=last, until=until, progress=progress)


def tell(report: "DriftReport") -> None:
    """The table, what could not be compared, the ages, and the verdict."""
    from features.drift_report import hours, together, verdict

    out = Console(highlight=False, soft_wrap=True)
    out.print(f"before: {escape(report.before.name)}, {report.before.rows:,} rows")
    out.print(f"after:  {escape(report.after.name)}, {report.after.rows:,} rows")
    Console(highlight=False).print(drift_table(report))
    for note in report.notes:
        out.print(f"[yellow]Note:[/yellow] {escape(note)}")
    for one in together(report.freshness):
        mark = "[green]fresh[/green]" if one.ok else "[red]stale[/red]"
        out.print(
            f"{mark} {escape(one.name)}: age {hours(one.oldest)}, may be {hours(one.max_age)}; {one.stale:.1%} older"
        )
    out.print(f"[{'green' if report.ok else 'red'}]{escape(verdict(report))}[/]")


def drift_table(report: "DriftReport") -> Table:
    """What moved the farthest beyond its limit comes first."""
    from features.drift_report import shift, words

    table = Table(box=SIMPLE_HEAD)
    table.pad_edge = False  # fits 80 columns
    table.add_column(f"{len(report.drifts)} compared", min_width=24, overflow="fold")
    for heading in ("PSI", "limit", "from", "missing", "shift ± SE"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = [one for at, one in enumerate(report.drifts) if at < MOST_ROWS or one.status != "ok"]
    for one in shown:
        name = f"[{COLORS[one.status]}]{escape(one.name)}[/]"
        table.add_row(name, f"{one.psi:.3f}", f"{one.limit:.3f}", words(one), f"{one.missing[1]:.1%}", shift(one))
    if len(shown) < len(report.drifts):
        table.add_row(f"[dim]… {len(report.drifts) - len(shown)} more, all ok[/dim]")
    return table
