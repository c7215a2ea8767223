"""The verbs of the people who write catalogs, as real processes."""

import json
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "catalog"


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample to spoil."""
    for file in SAMPLE.rglob("*.yaml"):
        copy = tmp_path / "catalog" / file.relative_to(SAMPLE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "catalog"


def test_a_sound_catalog_passes_its_check_and_its_tests_without_a_warning(terminal):
    checked = terminal.json("catalog", "check", SAMPLE)
    assert (checked["ok"], checked["errors"], checked["warnings"]) == (True, [], [])
    tested = terminal.json("catalog", "test", SAMPLE)
    assert tested["passed"] == tested["tests"] == checked["tests"]


def test_every_error_is_told_with_its_place_and_the_check_exits_with_2(terminal, folder):
    (folder / "wrong.yaml").write_text("caps: {x: {max: 3, per: 7 days, by: offer}}\nofers: {}\n")
    told = terminal.segue("catalog", "check", folder, expect=2)
    assert "wrong.yaml:1:25: caps.x.per: needs a duration" in told
    assert 'wrong.yaml:2:1: ofers: unknown section "ofers". Did you mean "offers"?' in told


def test_a_folder_that_shows_nothing_is_no_catalog(terminal, tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert "the catalog has no offers" in terminal.segue("catalog", "check", tmp_path, expect=2)


def test_warnings_are_told_and_refuse_nothing(terminal, folder):
    (folder / "idle.yaml").write_text("audiences: {idle: {tier: free}}\n")
    checked = terminal.json("catalog", "check", folder)
    (warning,) = checked["warnings"]
    assert checked["ok"]
    assert (warning["file"], warning["line"], warning["path"]) == ("idle.yaml", 1, "audiences.idle")


def test_a_failing_test_fails_the_check_and_the_tests_and_warnings_come_after_it(terminal, folder):
    (folder / "idle.yaml").write_text("audiences: {idle: {tier: free}}\n")
    (folder / "more.yaml").write_text("tests: [{name: odd, on: push, expect: {eligible: [gift_card]}}]\n")
    told = terminal.segue("catalog", "check", folder, expect=2)
    assert told.index('the test "odd" fails') < told.index("nobody uses it")
    assert 'Failed: more.yaml:1: the test "odd" fails' in terminal.segue("catalog", "test", folder, expect=1)


def test_the_schema_is_written_with_the_names_of_a_catalog(terminal):
    assert "hifi_addon" in terminal.segue("catalog", "schema", SAMPLE)
    plain = json.loads(terminal.segue("catalog", "schema"))
    assert plain["$schema"].startswith("http://json-schema.org/draft-07/")


def test_an_offer_is_told_in_words(terminal):
    told = terminal.segue("catalog", "words", "hifi_addon", "--catalog", SAMPLE)
    assert told.startswith("The offer hifi_addon is addons-pm's, in the group addon.\n")
    assert "Did you mean" in terminal.segue("catalog", "words", "hifi_adon", "--catalog", SAMPLE, expect=2)
