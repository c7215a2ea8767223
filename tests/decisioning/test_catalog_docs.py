"""Every YAML block of the reference for product managers is part of one catalog, which loads and passes its tests."""

import re
from pathlib import Path

import pytest

from decisioning.catalog_conditions import OPERATORS
from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import SECTIONS, CatalogError, load_catalog

TEXT = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_reference_is_a_catalog_that_loads_and_passes_its_own_tests():
    catalog = load_catalog({f"{number:02}.yaml": block.encode() for number, block in enumerate(BLOCKS)})
    assert len(catalog.offers) == 4
    assert [str(failure) for failure in run_tests(catalog)] == []


def test_the_reference_has_an_example_of_every_section_and_names_every_operator():
    written = {line.split(":")[0] for block in BLOCKS for line in block.splitlines()}
    assert set(SECTIONS) <= written
    for operator in {operator for operators in OPERATORS.values() for operator in operators}:
        assert f"{{{operator}:" in TEXT or f", {operator}:" in TEXT, operator


def test_the_error_in_the_reference_is_what_is_printed():
    wrong = "offers:\n  plus:\n    owner: a\n    group: x\n    surfaces: [shelf]\n    eligible:\n      markt: US\n"
    files = {
        "base.yaml": b"features: {market: {type: enum, values: [US]}}\nsurfaces: {shelf: {fallback: null}}\n",
        "offers/plans.yaml": wrong.encode(),
    }
    with pytest.raises(CatalogError) as caught:
        load_catalog(files)
    shown = re.search(r"^```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert shown[1].strip() == str(caught.value.problems[0])
