"""A page that needs nothing else: one HTML file, pictures inside, light, printable, safe with any text from data."""

import re
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision; marks differ in shape too.
BLUE, ORANGE, GREEN, RED, GREY, INK = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a939b", "#1f2933"
MOST_CHARACTERS = 36
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1f2933; background: #fff;
  margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid #d8dee4; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p, ul { margin: .4rem 0 .8rem; } li { margin: .3rem 0; } .dim { color: #5b6770; font-size: .875rem; }
.summary { background: #f4f7f9; border-left: 4px solid #0072b2; padding: .75rem 1.25rem; margin: 1.25rem 0; }
.summary h2 { border: 0; margin: .75rem 0 .25rem; padding: 0; font-size: 1.05rem; }
.summary.alarm { border-color: #d55e00; background: #fdf3ec; }
figure { margin: 1rem 0; break-inside: avoid; } figcaption { color: #5b6770; font-size: .875rem; }
figure svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; margin: .5rem 0; }
table { font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
td { white-space: nowrap; } td:first-child, td.text { white-space: normal; }
th { color: #5b6770; font-weight: 600; } th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { max-width: 22rem; } tr.strong td { font-weight: 600; } tr.faint td { color: #5b6770; }
code { font-size: .875em; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; }
}
"""


def page(title: str, body: Iterable[str]) -> str:
    """The whole file; `title` is text, `body` HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style>"
    )
    inside = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{inside}\n</body></html>\n'


def text(value: object) -> str:
    """Any text, for HTML: nothing in it is taken for markup, and what no file may hold is shown as a box."""
    return escape(printable(str(value)))


def printable(value: str) -> str:
    """Without control characters, lone surrogates and marks that turn the direction of what follows."""
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\u25a1", value
    )


def short(value: object, most: int = MOST_CHARACTERS) -> str:
    """A label for a picture: printable, and cut in the middle where it is long."""
    label = printable(str(value))
    return label if len(label) <= most else f"{label[: most * 2 // 3]}…{label[-(most // 3 - 1) :]}"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, texts: Sequence[int] = (), marks: Sequence[str] = ()
) -> str:
    """A table of texts; columns in `texts` are read from the left. `marks` gives rows a class, in their order."""
    kinds = [' class="text"' if column in texts else "" for column in range(len(headings))]
    head = "".join(f"<th{kind}>{text(heading)}</th>" for kind, heading in zip(kinds, headings, strict=True))
    lines = []
    for number, row in enumerate(rows):
        mark = f' class="{text(marks[number])}"' if number < len(marks) and marks[number] else ""
        cells = "".join(f"<td{kind}>{text(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr{mark}>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(drawing: str, caption: str) -> str:
    """An SVG element and the words beneath it."""
    return f"<figure>{drawing}<figcaption>{text(caption)}</figcaption></figure>"


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an element of a page: the same figure gives the same text. `label` tells it to who can't see it."""
    out = StringIO()
    options = {"svg.hashsalt": name, "svg.fonttype": "none", "font.family": ["DejaVu Sans", "Verdana", "sans-serif"]}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the reader's browser has its own
        warnings.filterwarnings("ignore", "Matplotlib currently does not support .* natively", UserWarning)
        figure.savefig(out, format="svg", metadata={"Date": None})
    found = out.getvalue()
    found = re.sub(r"<metadata>.*?</metadata>", "", found[found.index("<svg") :], flags=re.DOTALL)
    return found.replace("<svg ", f'<svg role="img" aria-label="{text(label)}" ', 1)


def drawn(width: float, height: float) -> Figure:
    """An empty figure, in inches, whose texts are text: no `$` starts a formula."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_facecolor("white")
    return figure
