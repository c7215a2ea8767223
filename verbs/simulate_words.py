"""What a comparison of policies looks like in a terminal."""

from collections.abc import Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from evaluation.arena.comparison import Comparison, Interval

TARGETS: Mapping[str, tuple[str, str]] = {
    "captured_share": ("captured of static … look-ahead", "at least 60 %"),
    "vs_propensity_argmax": ("ours over propensity argmax", "at least +15 %"),
    "vs_lints": ("ours over LinTS", "not below the better"),
    "vs_vw": ("ours over VW", ""),
    "exploration_cost": ("exploring costs, of greedy", "at most 3 %"),
}


def comparison_lines(found: Comparison) -> Iterator[str]:
    """What is missing, in a line."""
    if found.missing:
        names = " and ".join(f"{policy} (needs {package})" for policy, package in found.missing.items())
        yield f"[yellow]Left out:[/yellow] {names}. Install them with: pip install 'segue\\[comparison]'."


def comparison_table(found: Comparison) -> Table:
    """A row per policy: value a visit, its paired difference to ours, and what it did."""
    size = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}, {found.setting.users:,} listeners, "
    title = f"net value a visit, {size}{found.setting.days} days"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column("policy", no_wrap=True)
    for heading in ("value", "minus ours ± 95 %", "captured", "regret", "shown"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows():
        gap, share = row["minus_ours"], row["captured_share"]
        table.add_row(
            row["policy"],
            f"{row['value']['value']:.4f}",
            "" if gap is None else _told(Interval(**gap), "+.4f", ".4f"),
            "" if share is None else f"{share:.0%}",
            f"{row['regret']:.4f}",
            f"{row['shown']:.0%}",
            style="dim" if row["reference"] else None,
        )
    return table


def figures_table(found: Comparison) -> Table:
    """The figures that Segue is held against, beside their targets."""
    table = Table(box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column("figure")
    table.add_column("± 95 %", justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for name, figure in found.figures.items():
        words, target = TARGETS[name]
        signed = "+.1%" if name.startswith("vs_") else ".1%"
        table.add_row(words, _told(figure, signed, ".1%"), target)
    return table


def _told(figure: Interval, form: str, width: str) -> str:
    value = format(figure.value, form)
    return value if figure.low is None else f"{value} ± {format((figure.high - figure.low) / 2, width)}"
