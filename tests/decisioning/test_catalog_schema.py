"""The JSON Schema for editors: what the checker takes it takes, and it refuses plain mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from json_schema import failures

from decisioning.catalog_conditions import OPERATORS
from decisioning.catalog_keys import KEYS, SECTIONS
from decisioning.catalog_schema import REQUIRED, _fields, catalog_schema
from decisioning.catalog_yaml import CatalogError, load_catalog
from decisioning.yaml_nodes import Node, Problems, read_yaml

ROOT = Path(__file__).parents[2]
FILES = {file.relative_to(ROOT / "catalog").as_posix(): file.read_bytes() for file in ROOT.glob("catalog/**/*.yaml")}
DOCS = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/catalog.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
REFERENCE = {f"{number:02}.yaml": block.encode() for number, block in enumerate(DOCS)}


def as_editors_read(node: Node) -> Any:
    """A node as YAML 1.2's core schema has it."""
    if isinstance(node.value, list):
        return [as_editors_read(item) for item in node.value]
    if isinstance(node.value, dict):
        return {key: as_editors_read(item) for key, item in node.value.items()}
    if node.quoted:
        return node.value
    if node.is_null:
        return None
    if node.value in ("true", "false"):
        return node.value == "true"
    if re.fullmatch(r"[-+]?\d+", node.value):
        return int(node.value)
    if re.fullmatch(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", node.value):
        return float(node.value)
    return node.value


def document(content: bytes) -> Any:
    root = read_yaml("file.yaml", content, Problems())
    assert root is not None
    return as_editors_read(root)


@pytest.mark.parametrize("files", [FILES, REFERENCE], ids=["sample", "reference"])
@pytest.mark.parametrize("named", [True, False], ids=["with names", "without"])
def test_the_schema_takes_every_file_of_a_valid_catalog(files, named):
    schema = catalog_schema(load_catalog(files) if named else None)
    for name, content in files.items():
        assert failures(schema, document(content)) == [], name


def test_it_is_plain_json_of_the_draft_that_it_names():
    schema = catalog_schema(load_catalog(FILES))
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_it_has_every_section_and_every_key_that_the_checker_knows_and_no_other():
    assert set(catalog_schema()["properties"]) == set(SECTIONS)
    fields = _fields(None)
    assert {kind: tuple(keys) for kind, keys in fields.items()} == dict(KEYS)
    for kind, keys in REQUIRED.items():
        assert set(keys) <= set(KEYS[kind])


def test_it_completes_the_names_of_its_catalog():
    catalog = load_catalog(FILES)
    schema = catalog_schema(catalog)
    condition = schema["definitions"]["condition"]
    assert set(catalog.features) < set(condition["properties"])
    for spec in catalog.features.values():
        operators = next(
            one["properties"] for one in condition["properties"][spec.name]["anyOf"] if "properties" in one
        )
        assert tuple(operators) == OPERATORS[spec.type]
    assert "premium_annual" in json.dumps(schema["properties"]["caps"])


WRONG = [
    "offerz: {}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_baner]}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], eligible: {teir: free}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], eligible: {tier: gold}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], eligible: {tier: {min: 3}}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], eligible: {owned_addons: hifi}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], eligible: {sessions_7d: {min: many}}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], score: {prior: 2}}}",
    "offers: {x: {owner: a, group: merch, surfaces: [home_banner], colour: red}}",
    "offers: {x y: {owner: a, group: merch, surfaces: [home_banner]}}",
    "caps: {c: {max: 3, per: 7 days, by: offer}}",
    'caps: {c: {max: "3", per: 7d, by: offer}}',
    "caps: {c: {max: 3, per: 7d, by: offers}}",
    "quiet_hours: {q: {surfaces: [push], from: 25:00, to: 7:00}}",
    "ablations: {percent: 30}",
    "ablations: {percent: 1, factors: [price]}",
    "experiments: {e: {layer: l, arms: {a: {percent: 100, set: {offers.gift_card.owner: 3}}}}}",
    "experiments: {e: {layer: l, arms: {}}}",
    "exploration: {uniform: 1.5}",
    "tests: [{name: t, on: push, expect: {}}]",
    "tests: [{name: t, given: {teir: free}, on: push, expect: {never: [gift_card]}}]",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_it_refuses_the_checker_refuses_too(text):
    assert failures(catalog_schema(load_catalog(FILES)), document(text.encode()))
    with pytest.raises(CatalogError):
        load_catalog({**FILES, "wrong.yaml": text.encode()})


ITEMS = {
    "features": "{type: int}",
    "surfaces": "{fallback: null}",
    "offers": "{owner: a, group: merch, surfaces: [checkout]}",
    "invariants": "{when: {tier: free}, never: {group: plan_switch}}",
    "suppress": "{after: click, for: 1d}",
    "caps": "{max: 1, per: 1d, by: user}",
    "budgets": "{offers: [gift_card], impressions: 5}",
    "quiet_hours": "{surfaces: [push], from: 1:00, to: 2:00}",
    "exclusive": "{offers: [gift_card, day_pass], for: 1d}",
    "levers": "{times: 2, until: 2027-01-01, owner: a, why: b}",
    "context_weights": "{when: {tier: free}, times: 2, owner: a, why: b}",
    "holdouts": "{percent: 1, salt: s}",
    "experiments": "{layer: l, arms: {a: {percent: 100}}}",
}


@pytest.mark.parametrize(("section", "key"), [(section, key) for section in ITEMS for key in KEYS[section]])
def test_a_key_is_required_by_the_schema_exactly_where_the_checker_misses_it(section, key):
    fields = dict(re.findall(r"(\w+): ((?:\{.*?\}+|\[.*?\]|[^,{}\[\]]+))(?:, |\}$)", ITEMS[section]))
    without = ", ".join(f"{name}: {value}" for name, value in fields.items() if name != key)
    text = f"{section}: {{tested: {{{without}}}}}"
    try:
        load_catalog({**FILES, "t.yaml": text.encode()})
        missed = False
    except CatalogError as error:
        missed = any("missing" in problem.message or "needs" in problem.message for problem in error.problems)
    assert bool(failures(catalog_schema(), document(text.encode()))) is missed is (key in REQUIRED.get(section, ()))
