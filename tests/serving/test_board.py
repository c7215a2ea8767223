"""The board: every row has one writer, any number of readers, and no lock."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from decisioning.errors import UserError
from serving.processes.board import CLOSED, HEAD, ROW_BYTES, SERVING, Board, Row, Verdict

REPOSITORY = Path(__file__).parents[2]


def row(slot: int, **more) -> Row:
    return Row(slot=slot, pid=100 + slot, **more)


def test_what_is_posted_is_read_until_the_place_is_cleared():
    board = Board(2)
    first, second = row(1, state=SERVING, models={"upsell": "upsell/3"}), row(2)
    board.post(first)
    board.post(second)
    assert board.rows() == [first, second]
    board.clear(1)
    assert board.rows() == [second]
    assert board.row(1) is None


def test_there_is_room_for_all_workers_and_their_successors():
    board = Board(4)
    for place in board.places:
        board.post(row(place))
    assert len(board.rows()) >= 5


def test_nobody_has_looked_at_releases_until_the_scout_says_so():
    board = Board(1)
    assert board.approved() is None
    board.judge(Verdict(decided=True))
    assert board.approved() == ""
    board.judge(Verdict(decided=True, approved="r1", refused="r2", why="It is damaged.", refusals=1))
    assert board.approved() == "r1"
    assert board.verdict().why == "It is damaged."


def test_a_row_that_somebody_is_writing_is_no_row_and_no_mixture():
    board = Board(1)
    board.post(row(1, release="a" * 16))
    start = ROW_BYTES + HEAD.size
    board._memory[start + 30] ^= 1  # as a writer would leave it that was killed in the middle
    assert board.row(1) is None
    board.post(row(1, release="b" * 16))
    assert board.rows()[0].release == "b" * 16


def test_a_worker_is_ahead_of_those_that_accept_and_have_fewer_connections():
    board = Board(2)
    board.count(1, 3)
    assert not board.is_ahead(1), "nobody else accepts"
    board.count(2, 3)
    assert not board.is_ahead(1)
    board.count(2, 2)
    assert board.is_ahead(1)
    assert not board.is_ahead(2)
    board.count(2, CLOSED)
    assert not board.is_ahead(1)


def test_more_models_than_a_row_holds_are_told_as_such():
    models = {f"a model with a long name {n}": f"its label {n}" for n in range(1000)}
    with pytest.raises(UserError, match="so many models"):
        Board(1).post(row(1, models=models))


READ_WHILE_ANOTHER_PROCESS_WRITES = """
import os
from serving.processes.board import Board, Row
board = Board(1)
if os.fork() == 0:
    while True:
        for one in "ab":
            board.post(Row(slot=1, pid=1, release=one * 500, catalog=one * 500))
seen = set()
for _ in range(20_000):
    found = board.row(1)
    if found is not None:
        assert found.release == found.catalog and len(set(found.release)) == 1, found
        seen.add(found.release[0])
print(*sorted(seen), flush=True)
os.killpg(0, 9)
"""


def test_a_reader_beside_a_busy_writer_sees_whole_rows_alone():
    command = [sys.executable, "-c", READ_WHILE_ANOTHER_PROCESS_WRITES]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert done.stdout == "a b\n", done.stderr
    assert done.returncode == -signal.SIGKILL
