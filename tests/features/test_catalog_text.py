from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import features.definitions as definitions
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.catalog_yaml import load_catalog
from features.catalog_text import catalog_features_yaml, duration, quoted
from features.schema import Schema

SURFACES = b"surfaces: {home: {fallback: null}}\noffers: {any: {owner: a, group: g, surfaces: [home]}}\n"
SAMPLE = Path(definitions.__file__).parent.parent / "catalog"


def read_back(specs):
    return load_catalog({"features.yaml": catalog_features_yaml(specs).encode(), "surfaces.yaml": SURFACES}).features


def test_the_definitions_survive_the_catalogs_own_reader():
    assert Schema.of(read_back(definitions.SCHEMA.specs)) == definitions.SCHEMA


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_enum_value_survives_quotes_and_all(values):
    spec = FeatureSpec("f", FeatureType.ENUM, tuple(values))
    assert read_back([spec])["f"].values == spec.values


def test_every_field_survives():
    specs = [
        FeatureSpec("a", FeatureType.SET, ("x", "NO"), default=frozenset({"NO"})),
        FeatureSpec("b", FeatureType.BOOL, default=False, from_context=True),
        FeatureSpec("c", FeatureType.FLOAT, default=0.5, max_age=5_400.0, unit="24 h clock"),
        FeatureSpec("d", FeatureType.BOOL, blocks_if_missing=True),
        FeatureSpec("e", FeatureType.ENUM, ("null", "18_24"), default="null"),
    ]
    assert list(read_back(specs).values()) == specs


@pytest.mark.parametrize(("seconds", "text"), [(86_400, "1d"), (129_600, "36h"), (90, "90s"), (600, "10m")])
def test_durations_are_written_in_the_largest_unit_that_divides_them(seconds, text):
    assert duration(seconds) == text


def test_only_plain_words_go_without_quotes():
    assert [quoted(text) for text in ("free", "NO", "null", "1d", 'a "b"', "")] == [
        *("free", "NO", '"null"', '"1d"', '"a \\"b\\""', '""')
    ]


def test_the_sample_catalog_declares_the_features_that_are_defined():
    declared = load_catalog({"f.yaml": (SAMPLE / "features.yaml").read_bytes(), "s.yaml": SURFACES}).features
    told = Schema.of(declared)
    ours = Schema(tuple(feature.spec for feature in definitions.defined(told.names)))
    assert told == ours
    assert told.hash == ours.hash
