"""A drift report as one HTML file that needs nothing else: the verdict, a picture per thing that moved, the table."""

from collections.abc import Iterator

from matplotlib import rc_context

from evaluation.report.page import GREY, RED, drawn, page, picture, short, svg, table, text
from features.drift_report import Drift, DriftReport, Window, hours, moment, number, shift, together, verdict, words

MOST_PICTURES = 40
HEADINGS = (
    "",
    "status",
    "PSI",
    "limit",
    "from",
    "missing before",
    "after",
    "unseen",
    "mean before",
    "after",
    "shift ± SE",
)
LABEL = 18


def drift_page(report: DriftReport) -> str:
    """The whole page. What is to be watched has its picture too, after all that drifted."""
    return page(f"Drift of {report.what}", _body(report))


def _body(report: DriftReport) -> Iterator[str]:
    yield f"<h1>Drift of {report.what}</h1>"
    yield f'<p class="dim">Before: {_window(report.before)}<br>After: {_window(report.after)}</p>'
    told = "".join(f"<p>{text(one)}</p>" for one in (verdict(report), *report.notes))
    yield f'<div class="summary{"" if report.ok else " alarm"}">{told}</div>'
    moved = [one for status in ("drifted", "watch") for one in report.drifts if one.status == status]
    if moved:
        yield "<h2>What moved</h2>"
        for one in moved[:MOST_PICTURES]:
            yield f"<h3>{text(one.name)}</h3>"
            yield picture(_shares(one), f"{one.status}: PSI {one.psi:.3g}, may be {one.limit:.3g} ({words(one)})")
        if len(moved) > MOST_PICTURES:
            yield f"<p>… and {len(moved) - MOST_PICTURES} more.</p>"
    if report.freshness:
        found = together(report.freshness)
        ages = [(one.name, hours(one.oldest), hours(one.max_age), f"{one.stale:.1%}") for one in found]
        marks = ["" if one.ok else "strong" for one in found]
        yield "<h2>Age</h2>" + table(("", "age", "may be", "older than that"), ages, marks=marks)
    marks = ["strong" if one.status == "drifted" else "" for one in report.drifts]
    yield "<h2>All of them</h2>" + table(HEADINGS, map(_row, report.drifts), texts=(1, 4), marks=marks)


def _window(window: Window) -> str:
    at = "" if window.start is not None else f", as of {moment(window.end)} UTC"
    return f"{text(window.name)}{at}, {window.rows:,} rows"


def _row(one: Drift) -> tuple[str, ...]:
    missing = (f"{share:.1%}" for share in one.missing)
    unseen = "" if one.unseen is None else f"{one.unseen:.1%}"
    means = map(number, one.means or (None, None))
    return (
        one.name,
        one.status,
        f"{one.psi:.3g}",
        f"{one.limit:.3g}",
        words(one),
        *missing,
        unseen,
        *means,
        shift(one),
    )


def _shares(one: Drift) -> str:
    """The share of each cell before and after, side by side; cells that are empty in both are left out."""
    cells = [cell for cell in zip(one.labels, *one.shares, strict=True) if cell[1] or cell[2]]
    with rc_context({"text.parse_math": False}):  # a `$` in a name starts no formula
        figure = drawn(8.0, 2.6)
        axes = figure.subplots()
        places = range(len(cells))
        axes.bar([at - 0.2 for at in places], [cell[1] for cell in cells], 0.4, color=GREY, label="before")
        axes.bar([at + 0.2 for at in places], [cell[2] for cell in cells], 0.4, color=RED, label="after")
        turned = {"rotation": 40, "ha": "right"} if len(cells) > 8 else {}
        axes.set_xticks(list(places), [short(cell[0], LABEL) for cell in cells], fontsize=8, **turned)
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.tick_params(axis="y", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
        return svg(figure, one.name, f"Shares of {one.name} before and after")
