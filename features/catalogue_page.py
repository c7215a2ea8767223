"""The catalogue of features in `docs/features.md`, made from the definitions.

`python -m features.catalogue_page` puts it into the page again; a test sees to it that it is up to date.
"""

from collections.abc import Iterator
from pathlib import Path

from decisioning.errors import UserError
from features.catalogue import Entry, age_words, default_words, entries
from features.definitions import FEATURES, TOPICS

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
BEGIN = "<!-- The catalogue: made by `python -m features.catalogue_page`, from features/declared/. -->"
END = "<!-- End of the catalogue. -->"


def page_tables() -> str:
    """A table of features for each topic, in Markdown."""
    return "\n".join(_lines()) + "\n"


def with_catalogue(page: str) -> str:
    """The page with its catalogue as it should be. Raises UserError where its marks are gone."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{PAGE.name} has lost the lines between which its catalogue stands: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{page_tables()}\n{END}{after}"


def _lines() -> Iterator[str]:
    told = {one.name: one for one in entries({})}
    owners = len({feature.owner for feature in FEATURES})
    yield f"{len(FEATURES)} features of {owners} owners. A default stands for what is missing, and for what is too old."
    for topic, features in TOPICS.items():
        yield from ("", f"### {topic}", "", "| feature | type | unit | default | max. age | owner | meaning |")
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        yield from (_row(told[feature.name]) for feature in features)


def _row(one: Entry) -> str:
    spec = one.spec
    type_ = f"{spec.type}: {', '.join(spec.values)}" if spec.values else str(spec.type)
    blocks = "; guards that read it block where it is missing" if spec.blocks_if_missing else ""
    cells = (f"`{one.name}`", type_, spec.unit, default_words(spec.default), age_words(spec), one.owner)
    return f"| {' | '.join((*cells, one.meaning + blocks))} |"


if __name__ == "__main__":
    PAGE.write_text(with_catalogue(PAGE.read_text()))
