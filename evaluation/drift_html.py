"""A drift report as one HTML file that needs nothing else: the verdict, a picture per thing that moved, the table."""

from collections.abc import Iterator, Sequence
from html import escape
from io import StringIO

import matplotlib
from matplotlib.figure import Figure

from features.drift_report import Drift, DriftReport, Window, hours, moment, number, shift, verdict, words

MOST_PICTURES = 40
BEFORE, AFTER = "#9aa5b1", "#d9480f"
STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #1f2933}
table {border-collapse: collapse; width: 100%} th, td {text-align: right; padding: .25em .6em}
th:first-child, td:first-child {text-align: left} tr {border-bottom: 1px solid #e4e7eb}
.drifted, .stale {color: #c92a2a; font-weight: 600} .watch {color: #b35c00} .ok {color: #2b8a3e}
figure {display: inline-block; margin: 0 1em 1em 0; vertical-align: top} figcaption {max-width: 26em}
"""


def drift_page(report: DriftReport) -> str:
    """The whole page. What is `watch` has its picture too, after all that drifted."""
    moved = [one for status in ("drifted", "watch") for one in report.drifts if one.status == status]
    body = [
        f"<h1>Drift of {report.what}</h1>",
        f'<p class="{"ok" if report.ok else "drifted"}">{escape(verdict(report))}</p>',
        f"<p>Before: {_window(report.before)}<br>After: {_window(report.after)}</p>",
        *(f"<p>{escape(note)}</p>" for note in report.notes),
        *map(_figure, moved[:MOST_PICTURES]),
        *([f"<p>… and {len(moved) - MOST_PICTURES} more that moved.</p>"] if len(moved) > MOST_PICTURES else []),
        *_table(
            ("what", "PSI", "limit", "from", "missing before", "after", "unseen", "mean before", "after", "shift"),
            report,
        ),
        *_ages(report),
    ]
    head = f'<meta charset="utf-8"><title>Drift of {report.what}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"


def _window(window: Window) -> str:
    at = "" if window.start is not None else f", as of {moment(window.end)} UTC"
    return f"{escape(window.name)}{at}, {window.rows:,} rows"


def _figure(one: Drift) -> str:
    told = f"PSI {one.psi:.3g}, may be {one.limit:.3g} ({words(one)})"
    caption = f'<b class="{one.status}">{escape(one.name)}</b><br>{escape(told)}'
    return f"<figure>{svg(picture(one))}<figcaption>{caption}</figcaption></figure>"


def picture(one: Drift) -> Figure:
    """The share of each cell before and after, side by side; cells that are empty in both are left out."""
    cells = [cell for cell in zip(one.labels, *one.shares, strict=True) if cell[1] or cell[2]]
    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    axes = figure.subplots()
    places = range(len(cells))
    axes.bar([at - 0.2 for at in places], [cell[1] for cell in cells], 0.4, color=BEFORE, label="before")
    axes.bar([at + 0.2 for at in places], [cell[2] for cell in cells], 0.4, color=AFTER, label="after")
    axes.set_xticks(list(places), [cell[0][:18] for cell in cells], rotation=40, ha="right", fontsize=7)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    return figure


def svg(figure: Figure) -> str:
    """The picture as an element of a page; the same figure gives the same text."""
    out = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "segue", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _table(headings: Sequence[str], report: DriftReport) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{escape(one)}</th>' for one in headings)}</tr>"
    for one in report.drifts:
        before, after = one.means or (None, None)
        cells = [f"{one.psi:.3g}", f"{one.limit:.3g}", words(one), *(f"{share:.1%}" for share in one.missing)]
        cells += ["" if one.unseen is None else f"{one.unseen:.1%}", number(before), number(after), shift(one)]
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f'<tr><td class="{one.status}">{escape(one.name)}</td>{row}</tr>'
    yield "</table>"


def _ages(report: DriftReport) -> Iterator[str]:
    for one in report.freshness:
        told = (
            f"{one.name}: {one.stale:.1%} of the values are older than {hours(one.max_age)} (age {hours(one.oldest)})."
        )
        yield f'<p class="{"ok" if one.ok else "stale"}">{escape(told)}</p>'
