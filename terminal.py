"""How results look in a terminal: steps with their bars and times, tables of policy values, decisions in words.

Everything for people goes to standard error while `--json` owns standard output.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from decisioning.catalog import Catalog
from decisioning.catalog_tests import TestFailure
from decisioning.domain import Decision, Source
from decisioning.explain import Explanation, headline
from decisioning.words import Failure
from decisioning.yaml_nodes import Problem

if TYPE_CHECKING:
    from evaluation.reach import OfferReach

ProgressCallback = Callable[[int, int], None]
"""Called as work goes on, with how much is done and how much there is."""


class _Count(MofNCompleteColumn):
    """How much is done, where it is known of how much."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class Steps:
    """Long work as named steps: a bar while one runs, a line with its time when it has ended."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, what: str, unit: str = "") -> Iterator[ProgressCallback]:
        """Runs one step. `name` is its key in `seconds`, `what` the words that people read, `unit` that of its bar."""
        started = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Count())
        hidden = not self.console.is_terminal
        with Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True, disable=hidden) as bars:
            task = bars.add_task(f"{what} ({unit})" if unit else what, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
        self.seconds[name] = round(time.perf_counter() - started, 2)
        self.console.print(f"[green]✓[/green] {escape(what)} [dim]{self.seconds[name]:.1f} s[/dim]", highlight=False)


def problem_words(failures: Sequence[TestFailure], warnings: Sequence[Problem]) -> Iterator[str]:
    """What a valid catalog's check has to say: failing tests, then warnings."""
    if failures:
        told = "\n".join(["The catalog is valid, but its own tests fail:", *map(str, failures)])
        yield f"[red]Error:[/red] {escape(told)}"
    for warning in warnings:
        yield f"[yellow]Warning:[/yellow] {escape(str(warning))}"


def outcomes_of(result: Mapping[str, Any]) -> list[str]:
    """The outcomes of a table of policy values, the one that policies are made for first."""
    names = dict.fromkeys(record["outcome"] for record in result["policy_values"])
    return sorted(names, key=lambda name: name != result["objective"])


def policy_table(records: Sequence[Mapping[str, Any]], outcome: str, reference: str = "best_single_offer") -> Table:
    """The values of the policies for one outcome: DR with its interval, SNIPS beside it, the paired difference."""
    table = Table(title=f"{outcome} per decision", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False  # fits 80 columns
    table.add_column("policy", no_wrap=True)
    for heading in ("DR value ± 95 %", "SNIPS", "minus best ± 95 %", "ESS"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [record for record in records if record["outcome"] == outcome]
    lacking: dict[str, list[str]] = {}
    snips = {record["policy"]: record["value"] for record in rows if record["estimator"] == "snips"}
    for record in (record for record in rows if record["estimator"] == "dr"):
        value, note, diff_note = record["value"], record.get("note"), record.get("diff_note")
        difference = _with_interval(record["diff"], record["diff_low"], record["diff_high"], signed=True)
        if note or diff_note:
            lacking.setdefault(str(note or diff_note), []).append(record["policy"])
        table.add_row(
            record["policy"],
            f"{_figure(value)} ± not shown" if note else _with_interval(value, record["low"], record["high"]),
            _figure(snips.get(record["policy"])),
            "reference" if record["policy"] == reference else "not shown" if diff_note else difference,
            "" if record["ess"] is None else f"{record['ess']:,.0f}",
        )
    if lacking:
        table.caption = Text("\n".join(f"{', '.join(names)}: {why}" for why, names in lacking.items()))
        table.caption_justify = "left"
    return table


def ranking_table(records: Sequence[Mapping[str, Any]], outcome: str) -> Table:
    """DR's value again beside the estimators that may rank candidates, never gate."""
    table = Table(title="for ranking only", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column("policy", no_wrap=True)
    estimators = {"dr": "DR", "ips": "IPS", "dm": "DM", "switch_dr": "Switch-DR", "dros": "DRos"}
    for heading in estimators.values():
        table.add_column(heading, justify="right", no_wrap=True)
    values = {(row["policy"], row["estimator"]): row["value"] for row in records if row["outcome"] == outcome}
    for policy in dict.fromkeys(policy for policy, _ in values):
        table.add_row(policy, *(_figure(values.get((policy, name))) for name in estimators))
    return table


def _with_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A value and the half-width of its interval, which is symmetric."""
    if value is None or low is None or high is None:
        return _figure(value, signed=signed)
    half = (high - low) / 2
    return f"{_figure(value, signed=signed)} ± {half:.4f}" if half >= 0.00005 else f"{_figure(value)} ± {half:.0e}"


def _figure(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "not shown"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def reach_table(surface: str, found: "Sequence[OfferReach]", users: int) -> Table:
    """The offers of one surface, the farthest-reaching first, and beneath each of them what drops the others."""
    table = Table(title=f"{surface}: {users:,} users", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column("users", justify="right", no_wrap=True)
    table.add_column("offer, and the clauses that it loses them to")
    table.add_column("where", no_wrap=True, style="dim")
    for one in sorted(found, key=lambda one: (-one.eligible, one.offer)):
        later = "" if one.live else " [yellow]not live at that moment[/yellow]"
        share = f"{one.eligible / users:.1%}" if users else "nobody is in the snapshot"
        table.add_row(f"[bold]{one.eligible:,}[/bold]", f"[bold]{escape(one.offer)}[/bold] {share}{later}")
        for drop in one.dropped:
            if drop.users:
                table.add_row(
                    f"[dim]-{drop.users:,}[/dim]", f"  {escape(drop.hurdle.words)}", escape(drop.hurdle.where)
                )
        if one.hangs_on:
            sent = f"hangs on {', '.join(one.hangs_on)} of the request: at most {one.at_most:,}"
            table.add_row("", f"  [yellow]{escape(sent)}[/yellow]")
    return table


def decision_words(
    catalog: Catalog, decision: Decision, explanation: Explanation, *, most: int | None = None, changes: bool = False
) -> list[str]:
    """A decision as lines of rich markup: what is shown and why, then why not each of the others.

    With `changes`, also the least change that would have shown each.
    """
    mark = {Source.NONE: "yellow", Source.FALLBACK: "yellow"}.get(decision.source, "green")
    lines = [f"[{mark}]→[/{mark}] {escape(headline(catalog, decision, explanation))}"]
    for extra in decision.slate[1:]:
        lines.append(f"  slot {extra.slot}: {extra.offer}, score {extra.score:.4g}, chance {extra.probability:.1%}")
    others = explanation.outranked + explanation.reasons[::-1]  # what was dropped last came closest
    shown = others[:most]
    for one in shown:
        where = f" [dim]({one.where})[/dim]" if one.where else ""
        rule = f"{one.stage}" if one.rule in (one.offer, "score") else f"{one.stage} {one.rule}"
        lines.append(f"  [dim]not[/dim] {escape(one.offer)}: {escape(rule)}: {escape(one.detail)}{where}")
        if changes and one.change is not None:
            lines.append(f"      [cyan]{escape(one.change.words)}[/cyan]")
    if len(others) > len(shown):
        lines.append(f"  [dim]… and {len(others) - len(shown)} more, each with its reason[/dim]")
    if decision.degraded:
        lines.append(f"  [yellow]degraded:[/yellow] {escape(', '.join(decision.degraded))}")
    return lines


def clause_words(clauses: Mapping[str, Sequence[Failure]]) -> Iterator[str]:
    """What said no to each offer, as the truth word has it."""
    if clauses:
        yield "  [dim]Everything that said no, from the truth word alone:[/dim]"
    for offer, failures in clauses.items():
        told = "; ".join(f"{one.detail} ({one.place})" for one in failures)
        yield f"  [dim]{escape(offer)}:[/dim] {escape(told)}"
