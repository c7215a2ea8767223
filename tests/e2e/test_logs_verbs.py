"""`segue logs` and `segue erase` as people use them, most of it while a server runs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
import pytest

CATALOG = """
surfaces:
  front_page: {slots: 1, fallback: null, sticky: 1d}
groups:
  passes: {within: 3d}
offers:
  crime_pass: {owner: shop, group: passes, surfaces: [front_page], score: {value: 10, prior: 0.2}}
  poetry_pass: {owner: shop, group: passes, surfaces: [front_page], score: {value: 9, prior: 0.2}}
caps:
  per_offer: {max: 3, per: 7d, by: offer}
exploration: {uniform: 0.5, challenger: 0}
"""
READERS = [f"reader-{number:03d}" for number in range(30)]
WHO = READERS[7]


@dataclass(frozen=True)
class Verbs:
    """`segue` verbs in this process, which has loaded everything, on the home of a server in another."""

    home: Path
    run: Callable[..., tuple[int, str, str]]

    def segue(self, *words: object, expect: int = 0) -> str:
        code, said, complained = self.run(*words)
        assert code == expect, complained
        return complained if expect else said

    def json(self, *words: object) -> dict:
        return json.loads(self.segue(*words, "--json"))


@pytest.fixture
def verbs(terminal, served, monkeypatch, here) -> Verbs:
    def run(*words):
        for name in ("SEGUE_HOME", "SEGUE_NAMESPACE"):
            monkeypatch.setenv(name, terminal.environment()[name])
        return here(*words)

    return Verbs(terminal.home, run)


@pytest.fixture(scope="module")
def served(terminal):
    """A server that decided, was told of impressions, and runs on."""
    (terminal.home / "catalog").mkdir(parents=True)
    (terminal.home / "catalog" / "all.yaml").write_text(CATALOG)
    with terminal.serving("--catalog", terminal.home / "catalog") as server:
        for reader in READERS:
            answer = server.client.decide(reader, "front_page")
            server.client.report("impression", reader, answer, answer["offers"][0]["offer"], f"i-{reader}")
        yield server


def test_a_log_is_looked_at_compacted_shipped_and_replayed(verbs, tmp_path):
    told = verbs.json("logs", "status")
    assert told["decisions"]["open_segments"] == 1
    assert "1 segments open" in verbs.segue("logs", "status")
    assert verbs.json("logs", "compact")["decisions"]["segments"] == 0  # a living server's is left to it
    assert verbs.json("logs", "ship", "--to", tmp_path / "shipped")["lines"] == {}
    assert verbs.json("logs", "ship", "--to", tmp_path / "shipped", "--forget")["forgotten"]


def test_a_reader_is_erased_from_the_log_and_the_store_of_a_running_server(verbs, served):
    there = verbs.json("erase", "--user", WHO, "--dry-run")
    assert there["log"] == {"decisions": 1, "events": 1}
    assert there["store"]["keys"] >= 2
    told = verbs.json("erase", "--user", WHO, "--by", "ticket 7")
    assert {name: told[name] for name in ("log", "store", "left", "left_in_store")} == {
        "log": there["log"],
        "store": there["store"],
        "left": [],
        "left_in_store": 0,
    }
    assert verbs.json("erase", "--user", WHO)["log"] == {}
    assert WHO not in (verbs.home / "erasures.jsonl").read_text()
    table = ds.dataset(verbs.home / "logs" / "tables" / "decisions", partitioning="hive").to_table()
    assert len(table) == len(READERS) - 1
    report = verbs.json("replay", "--last", "all")
    assert (report["decisions"], report["identical"]) == (len(READERS) - 1, len(READERS) - 1)
    decision = table["decision_id"][0].as_py()
    assert verbs.json("explain", decision)["identical"]
    assert served.client.decide(WHO, "front_page")["offers"]  # a new story
    assert verbs.json("replay", "--last", "all")["decisions"] == len(READERS)


def test_what_stays_ends_with_one_and_names_the_place(verbs):
    (verbs.home / "notes.txt").write_text(f"{READERS[9]} called\n")
    told = verbs.segue("erase", "--user", READERS[9], expect=1)
    assert "Not all of it is gone" in told
    (verbs.home / "notes.txt").unlink()
    verbs.segue("erase", "--user", READERS[9])


def test_it_is_said_when_nothing_was_known_of_whom_to_erase(verbs):
    code, _, told = verbs.run("erase", "--user", "reader-7", "--dry-run")
    assert (code, "is it the right id" in told) == (0, True)
    assert "is it the right id" not in verbs.run("erase", "--user", READERS[11], "--dry-run")[2]


def test_lines_that_a_new_place_will_never_be_sent_are_named_once(verbs, tmp_path):
    told = verbs.run("logs", "ship", "--to", tmp_path / "new")[2]
    assert "lines were compacted before anything was shipped to this place" in " ".join(told.split())
    assert "compacted" not in verbs.run("logs", "ship", "--to", tmp_path / "new")[2]
    assert verbs.json("logs", "ship", "--to", tmp_path / "new", "--forget")["forgotten"]
    code, said, told = verbs.run("logs", "ship", "--to", tmp_path / "nwe", "--forget")
    assert (code, "forgotten: no" in said, "Nothing was shipped there" in told) == (0, True, True)


def test_what_was_compacted_is_pruned_by_day_with_labels_protected(verbs):
    told = verbs.segue("logs", "prune", "--older-than", "1d", expect=2)
    assert "Keep at least 3d" in told
    for words in (("--older-than", "90d"), ("--older-than", "1d", "--force")):
        assert verbs.json("logs", "prune", *words) == {"gone": [], "stays": []}  # all of it is of today
    old = verbs.home / "logs" / "events" / "0000000000001-9.old-000001.jsonl"
    line = {"event_id": "e", "type": "click", "decision_id": "d", "offer": "o", "user": "u", "surface": "s", "at": 1e9}
    old.write_text(json.dumps(line) + "\n")
    assert [one["name"] for one in verbs.json("logs", "prune", "--older-than", "90d", "--dry-run")["would_go"]] == [
        old.name
    ]
    assert verbs.json("logs", "compact")["events"]["days"] == ["2001-09-09"]
    assert "2001-09-09" in verbs.segue("logs", "prune", "--older-than", "90d")
    assert not list((verbs.home / "logs" / "tables").rglob("day=2001*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logs", "prune", "--older-than", "lots"), "takes a time"),
        (("logs", "prune", "--older-than", "90"), "takes a time"),
        (("logs", "prune", "--older-than", "0d"), "--older-than takes a time"),
        (("logs", "prune", "--older-than", "99999999d"), "takes a time"),
        (("logs", "ship", "--to", "kafka://127.0.0.1:1/log", "--timeout", "0.2"), "Nothing is lost"),
        (("logs", "ship", "--to", "kafka://nowhere"), "write kafka://host:port/topic"),
        (("erase", "--user", " "), "empty"),
        (("erase", "--user", "u", "--redis-url", "redis://127.0.0.1:1"), "erase again when it is up"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(verbs, words, said):
    (verbs.home / "logs" / "events" / "1-1.x-000001.jsonl").write_text("something to be shipped\n")
    told = verbs.segue(*words, expect=2)
    assert said in told
    assert "Traceback" not in told
