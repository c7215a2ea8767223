"""Every YAML block of the reference for product managers is part of one catalog, which loads and passes its tests."""

import re
from pathlib import Path

import pytest
from constructs import EVERY, constructs

from decisioning.catalog_conditions import MAX_CLAUSES
from decisioning.catalog_keys import KEYS
from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import MAX_TOTAL, MOST, CatalogError, load_catalog
from decisioning.yaml_nodes import MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS

TEXT = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
FILES = {f"{number:02}.yaml": block.encode() for number, block in enumerate(BLOCKS)}


def test_the_reference_is_a_catalog_that_loads_and_passes_its_own_tests():
    catalog = load_catalog(FILES)
    assert len(catalog.offers) == 4
    assert [str(failure) for failure in run_tests(catalog)] == []


def test_the_reference_has_an_example_of_every_construct():
    assert sorted(EVERY - constructs(FILES)) == []


def test_the_reference_explains_every_key():
    told = re.sub(r"^```yaml\n.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    for keys in KEYS.values():
        for key in keys:
            assert re.search(rf"\b{key}\b", told), key


def test_the_limits_in_the_reference_are_the_checkers():
    limits = dict(re.findall(r"^\| ([^|]+) \| ([\d,; ]+) \|$", TEXT, re.MULTILINE))
    assert limits == {
        "offers": f"{MOST['offers']:,}",
        "surfaces": f"{MOST['surfaces']:,}",
        "context weights": f"{MOST['context_weights']:,}",
        "clauses of a condition, those of its audiences included": f"{MAX_CLAUSES}",
        "bytes of a file; of all files": f"{MAX_BYTES:,}; {MAX_TOTAL:,}",
        "levels of nesting": f"{MAX_DEPTH}",
        "values of a set feature": "24",
        "problems told at once": f"{MAX_PROBLEMS}",
    }


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
