"""How a what-if is told: lines and tables for product managers, and Markdown for a pull request."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from evaluation.whatif.thresholds import Verdict

MOST_OFFERS, MOST_FLOWS = 20, 6
Report = Mapping[str, Any]


def whatif_lines(found: Report, verdicts: "Sequence[Verdict]") -> Iterator[RenderableType]:
    """A report for the terminal, within 80 columns."""
    yield f"[dim]before:[/dim] {escape(found['before'])}"
    yield f"[dim]after: [/dim] {escape(found['after'])}"
    yield f"[dim]on:    [/dim] {escape(_traffic(found))}"
    yield ""
    for line in _headlines(found):
        yield escape(line)
    if not found["identical"]:
        yield _offers(found)
        if found["flows"]:
            yield "[bold]who takes whose place[/bold]"
            for flow in found["flows"][:MOST_FLOWS]:
                yield escape(f"  {flow['decisions']:>9,}  {flow['from']} → {flow['to']}")
            yield ""
        for feature in dict.fromkeys(one["feature"] for one in found["segments"]):
            yield _segments(feature, [one for one in found["segments"] if one["feature"] == feature])
    for caveat in [*_omissions(found), *found["caveats"]]:
        yield f"[dim]{escape(caveat)}[/dim]"
    for verdict in verdicts:
        mark = "red" if verdict.tripped else "yellow" if verdict.found is None else "green"
        yield f"[{mark}]{escape(str(verdict))}[/{mark}]"


def whatif_markdown(found: Report, verdicts: "Sequence[Verdict]") -> str:
    """The same, shorter, as a comment on a pull request."""
    tripped = [one for one in verdicts if one.tripped]
    mark = "❌" if tripped else "✅" if verdicts else "ℹ️"
    told = [
        f"### {mark} What this change would have done",
        "",
        f"{_traffic(found)}: {found['before']} → {found['after']}.",
    ]
    told += ["", *(f"- {line}" for line in _headlines(found))]
    if not found["identical"]:
        told += ["", "| offer | first place before | after | change |", "| --- | ---: | ---: | ---: |"]
        for one in _moved(found)[:10]:
            told.append(f"| {one['offer']} | {one['before_share']:.2%} | {one['after_share']:.2%} | {_relative(one)} |")
        harmed = [one for one in found["segments"] if one["worth"]["high"] is not None and one["worth"]["high"] < 0]
        told += [f"- worse for {one['feature']} {one['value']}: {value_words(one['worth'])}" for one in harmed]
    if verdicts:
        told += ["", *(f"- {'**' if one.tripped else ''}{one}{'**' if one.tripped else ''}" for one in verdicts)]
    told += ["", f"<sub>{' '.join([*_omissions(found), *found['caveats']])}</sub>"]
    return "\n".join(told) + "\n"


def lever_lines(found: Report) -> Iterator[RenderableType]:
    """What a search for a lever found."""
    offer, where, (low, high) = found["offer"], ", ".join(found["surfaces"]), found["bounds"]
    yield (
        f"[bold]{escape(offer)}[/bold] on {escape(where)} comes first in {found['share_now']:.2%} of "
        f"{found['decisions']:,} decisions; with a lever at the bound of {high:g}, in {found['share_most']:.2%}."
    )
    for one in found["by_lever"]:
        yield f"  lever {one['lever']:<5g} {one['share']:>7.2%}"
    if found["lever"] is None:
        yield (
            f"[yellow]No lever gives it {found['share_wanted']:.2%}:[/yellow] elsewhere it is not eligible, its rivals "
            "score too much, or they are of a higher class. Widen who may get it, or settle for less."
        )
        return
    if found["lever"] <= low and found["share"] > found["share_wanted"]:
        yield f"[yellow]Even the least lever, {low:g}, leaves it {found['share']:.2%}.[/yellow]"
    else:
        yield f"[green]A lever of {found['lever']:g} gives it {found['share']:.2%}.[/green] In the catalog:"
    scope = f", surface: {where}" if len(found["surfaces"]) == 1 else ""
    yield escape(
        f"  levers:\n    more_{offer}: {{only: {{offer: {offer}{scope}}}, times: {found['lever']:g}, "
        "until: …, owner: …, why: …}"
    )
    yield ""
    yield "[bold]What it would have done[/bold]"
    yield from whatif_lines(found["report"], [])


def value_words(value: Report) -> str:
    """A difference of value with its interval and its support, or why there is none."""
    if value["note"]:
        return str(value["note"])
    relative = "" if value["relative"] is None else f", {value['relative']:+.1%} of {value['before']:.4f}"
    half = (value["high"] - value["low"]) / 2
    return (
        f"{value['difference']:+.4f} ± {half:.4f} {value['currency']} a decision{relative} "
        f"(95 %, effective sample size {value['ess']:,.0f})"
    )


def _traffic(found: Report) -> str:
    return f"{found['decisions']:,} decisions of {found['users']:,} users {_span(found)}"


def _span(times: Report) -> str:
    first, last = (
        datetime.fromtimestamp(times[name], UTC).strftime("%Y-%m-%d %H:%M UTC") for name in ("since", "until")
    )
    return f"from {first} to {last}" if times["since"] else f"until {last}"


def _headlines(found: Report) -> Iterator[str]:
    if found["identical"]:
        yield "Nothing changes: every decision comes out the same, with the same chances (identical)."
        return
    yield (
        f"{found['changed_share']:.2%} of decisions get another first offer; "
        f"{found['slate_changed_share']:.2%} another slate."
    )
    nothing, fallback = found["nothing_share"], found["fallback_share"]
    yield (
        f"Left with nothing: {found['left_with_nothing_share']:.2%} of decisions, {found['users_left_with_nothing']:,} "
        f"users. Shown nothing: {nothing['before']:.2%} → {nothing['after']:.2%}; "
        f"only a fallback: {fallback['before']:.2%} → {fallback['after']:.2%}."
    )
    yield f"Value: {value_words(found['value'])}."
    if found["unjudged_share"]:
        most = sorted(found["offers"], key=lambda one: -one["unjudged_share"])[:3]
        named = ", ".join(f"{one['offer']} {one['unjudged_share']:.2%}" for one in most if one["unjudged_share"])
        yield f"The log can't judge {found['unjudged_share']:.2%} of choices, which it could not show: {named}."


def _moved(found: Report) -> list[Report]:
    moved = [one for one in found["offers"] if one["before"] != one["after"] or one["gained"] or one["unjudged_share"]]
    return sorted(moved, key=lambda one: -abs(one["after"] - one["before"]))


def _offers(found: Report) -> Table:
    table = _table("offers by first place")
    table.add_column("offer", no_wrap=True)
    for heading in ("before", "after", "change", "with exploration"):
        table.add_column(heading, justify="right", no_wrap=True)
    moved = _moved(found)
    for one in moved[:MOST_OFFERS]:
        table.add_row(
            escape(one["offer"]),
            f"{one['before_share']:.2%}",
            f"{one['after_share']:.2%}",
            _relative(one),
            f"{one['expected_before_share']:.2%} → {one['expected_after_share']:.2%}",
        )
    if len(moved) > MOST_OFFERS:
        table.add_row(f"… and {len(moved) - MOST_OFFERS} more (--json has all)")
    return table


def _segments(feature: str, rows: Iterable[Report]) -> Table:
    table = _table(f"by {feature}")
    table.add_column(feature, no_wrap=True)
    for heading in ("decisions", "changed", "nothing", "value ± 95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in rows:
        value = one["worth"]
        told = "identical" if value["difference"] == 0 and value["note"] else "not shown"
        if not value["note"]:
            told = f"{value['difference']:+.4f} ± {(value['high'] - value['low']) / 2:.4f}"
        left = f"{one['left_with_nothing_share']:.2%}"
        table.add_row(escape(one["value"]), f"{one['decisions']:,}", f"{one['changed_share']:.2%}", left, told)
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    return table


def _relative(one: Report) -> str:
    if one["change"] is None:
        return "new" if one["after"] else "–"
    return f"{one['change']:+.1%}"


def _omissions(found: Report) -> Iterator[str]:
    for what, count in found["left_out"].items():
        yield f"Left out: {count:,} {what}."
    for release, count in found["unloadable_releases"].items():
        yield f"Left out: {count:,} decisions of release {release}, which can't be loaded."
    value = found["value"]
    if value["young"] and value["decisions"] and not found["identical"]:
        yield f"Value is that of {value['decisions']:,} decisions {_span(value)}, whose windows have closed."
