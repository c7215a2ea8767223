"""Logs in parts: every line once, however they are cut, and none that is long past."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.log.chunks import Chunk, chunks, last_line, latest, lines, moment_of_last
from stores.log.event_log import EventLog


def at(line: bytes) -> float:
    return float(line.split()[0])


def write(folder: Path, *texts: str, writer: str = "1.a", number: int = 1, open_still: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:013d}-{writer}-{number:06d}{'.open' if open_still else ''}.jsonl"
    path.write_bytes("".join(texts).encode())
    return path


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30), max_size=12),
    size=st.integers(1, 60),
    tail=st.sampled_from(["", "torn"]),
)
def test_every_line_is_in_exactly_one_chunk(tmp_path_factory, texts, size, tail):
    folder = tmp_path_factory.mktemp("log")
    path = write(folder, *(f"{text}\n" for text in texts), tail)
    parts = chunks(folder, None, at, size)
    assert [line for part in parts for line in lines(part)] == [text.encode() for text in texts if text]
    assert sum(part.size for part in parts) == path.stat().st_size


def test_segments_that_end_before_the_moment_are_left_out(tmp_path):
    for number in range(1, 6):
        write(tmp_path, f"{number * 1000} a\n{number * 1000 + 999} b\n", number=number)
    write(tmp_path, "1 of another writer\n", writer="2.b", number=1)
    kept = [part.path.name for part in chunks(tmp_path, 3500.0, at)]
    assert len(kept) == 4  # from the third of the first writer on, and the only one of the other
    assert not any("000001" in name and "1.a" in name for name in kept)


def test_a_segment_whose_requests_overlapped_the_next_ones_is_kept(tmp_path):
    write(tmp_path, "1000 a\n1010 b\n", number=1)
    write(tmp_path, "1005 c\n", number=2)
    assert len(chunks(tmp_path, 1008.0, at)) == 2


def test_the_latest_line_of_all_writers_is_found_past_what_is_none(tmp_path):
    write(tmp_path, "10 a\n30 b\nnonsense\n", writer="1.a")
    write(tmp_path, "20 c\n", writer="2.b")
    assert last_line(tmp_path, at) == b"30 b"
    assert latest(tmp_path, at) == 30.0
    assert latest(tmp_path / "nowhere", at) is None


@pytest.mark.parametrize(("n", "moment"), [(1, 50.0), (3, 30.0), (5, 10.0), (9, 10.0)])
def test_the_moment_of_the_last_lines_counts_all_writers(tmp_path, n, moment):
    write(tmp_path, "10 a\n30 b\n", writer="1.a", number=1)
    write(tmp_path, "nonsense\n50 c\n", writer="1.a", number=2)
    write(tmp_path, "20 d\n40 e\n", writer="2.b")
    assert moment_of_last(tmp_path, n, at) == moment


def test_a_log_that_is_being_written_can_be_read(tmp_path):
    log = EventLog(tmp_path)
    log.append(b"1 a")
    log.append(b"2 b")
    [part] = chunks(tmp_path, None, at)
    log.close()  # the segment has another name by now
    assert list(lines(part)) == [b"1 a", b"2 b"]


def test_a_chunk_from_the_middle_of_a_line_begins_with_the_next(tmp_path):
    path = write(tmp_path, "aaaa\nbbbb\ncccc\n")
    assert list(lines(Chunk(path, 3, 15))) == [b"bbbb", b"cccc"]
    assert list(lines(Chunk(path, 5, 6))) == [b"bbbb"]
    assert list(lines(Chunk(path, 6, 10))) == []
