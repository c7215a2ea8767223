"""The scout: it tries what is new once, tells everybody, and keeps what is good."""

import os

import pytest
import structlog

from serving.processes import scout as module
from serving.processes.board import Board
from serving.processes.scout import Scout
from stores.releases import ReleaseStore

BROKEN = "It is broken."


class Shelf:
    """Releases on disk, which can be made bad, and how often each was tried."""

    def __init__(self, releases: ReleaseStore) -> None:
        self.releases = releases
        self.bad: set[str] = set()
        self.tried: list[str] = []

    def put(self, text: bytes) -> str:
        """Publishes a release and points to it."""
        made = self.releases.publish({"catalog/all.yaml": text}, who="t", why="t", now=1.0)
        self.releases.activate(made, expected=self.releases.current(), who="t", why="t", now=1.0)
        return made

    def attempt(self, releases: ReleaseStore, release_id: str) -> str | None:
        self.tried.append(release_id)
        return BROKEN if release_id in self.bad else None


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(ReleaseStore(tmp_path / "releases"))


@pytest.fixture
def board() -> Board:
    return Board(1)


@pytest.fixture
def scout(shelf, board) -> Scout:
    return Scout(shelf.releases, board, shelf.attempt)


def test_without_any_release_it_decides_for_the_rules(scout, board):
    scout.look()
    assert board.approved() == ""


def test_a_release_is_tried_once_before_all_are_told(scout, board, shelf):
    first = shelf.put(b"1")
    for _ in range(3):
        scout.look()
    second = shelf.put(b"2")
    for _ in range(3):
        scout.look()
    assert shelf.tried == [first, second]
    assert board.approved() == second


def test_a_refused_release_changes_nothing_is_told_once_and_tried_again_later(scout, board, shelf, monkeypatch):
    good = shelf.put(b"1")
    scout.look()
    bad = shelf.put(b"2")
    shelf.bad.add(bad)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            scout.look()
        monkeypatch.setattr(module, "RETRY_AFTER", 0.0)
        scout._retry_at = 0.0
        scout.look()
        scout.look()
    assert [(line["event"], line["release"], line["why"], line["kept"]) for line in lines] == [
        ("release_refused", bad, BROKEN, good)
    ]
    verdict = board.verdict()
    assert (verdict.approved, verdict.refused, verdict.refusals) == (good, bad, 1)
    assert shelf.tried == [good, bad, bad, bad]
    shelf.bad.clear()
    scout.look()
    assert (board.approved(), board.verdict().refused) == (bad, "")


def test_going_back_to_what_is_in_use_ends_the_alarm(scout, board, shelf):
    good = shelf.put(b"1")
    scout.look()
    shelf.bad.add(shelf.put(b"2"))
    scout.look()
    shelf.releases.rollback(who="t", why="t", now=2.0)
    scout.look()
    verdict = board.verdict()
    assert (verdict.approved, verdict.refused, verdict.refusals) == (good, "", 1)


def test_at_the_start_the_latest_good_one_of_those_before_takes_the_place_of_a_bad_one(scout, board, shelf):
    oldest, older, old, current = (shelf.put(text) for text in (b"1", b"2", b"3", b"4"))
    shelf.bad |= {current, old}
    scout.look()
    assert board.approved() == older
    assert oldest not in shelf.tried
    assert board.verdict().refused == current


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_at_the_start_a_bad_release_without_a_history_leaves_the_rules(scout, board, shelf, tmp_path, damage):
    shelf.put(b"1")
    shelf.bad.add(shelf.put(b"2"))
    history = tmp_path / "releases" / "history.jsonl"
    history.unlink()
    if damage == "garbage":
        history.write_bytes(b"\xff{")
    scout.look()
    assert board.approved() == ""


@pytest.mark.parametrize("damage", ["folder", "bytes"])
def test_a_pointer_that_cannot_be_read_changes_nothing(scout, board, shelf, tmp_path, damage):
    good = shelf.put(b"1")
    scout.look()
    pointer = tmp_path / "releases" / "current"
    pointer.unlink()
    if damage == "folder":
        pointer.mkdir()
    else:
        pointer.write_bytes(b"\xff\xfe")
    with structlog.testing.capture_logs() as lines:
        scout.look()
        scout.look()
    assert [line["event"] for line in lines] == ["release_refused"]
    assert board.approved() == good


def test_a_pointer_that_is_gone_changes_nothing(scout, board, shelf, tmp_path):
    good = shelf.put(b"1")
    scout.look()
    (tmp_path / "releases" / "current").unlink()
    scout.look()
    assert board.approved() == good


def test_it_ends_when_its_leash_does(shelf, board, monkeypatch):
    monkeypatch.setattr(module, "examine", lambda releases, release_id: None)
    good = shelf.put(b"1")
    ours, theirs = os.pipe()
    os.close(theirs)
    with pytest.raises(module.Abandoned):
        module.caged(shelf.releases, good, ours)
    module.follow(shelf.releases, board, ours)
    os.close(ours)
    assert board.approved() is None, "what nobody waits for is judged by nobody"


def test_a_leash_that_ends_while_an_earlier_release_is_tried_ends_it_without_a_verdict(shelf, board, monkeypatch):
    good, newer = shelf.put(b"1"), shelf.put(b"2")
    tried = []

    def attempt(releases, release_id):
        tried.append(release_id)
        if release_id == good:
            raise module.Abandoned
        return BROKEN

    with pytest.raises(module.Abandoned):
        Scout(shelf.releases, board, attempt).look()
    assert tried == [newer, good]
    assert board.approved() is None
