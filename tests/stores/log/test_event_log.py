"""The log on disk: what was acknowledged is there, and nothing that happens to the disk reaches the caller."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from stores.log import segments
from stores.log.event_log import DROPPED, EventLog
from stores.log.reader import read, tail
from stores.log.segments import OPEN, recover, seal

ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from pathlib import Path
from stores.log.event_log import EventLog
log = EventLog(Path(sys.argv[1]), segment_bytes=5_000)
number = 0
while True:
    log.append(b"%d " % number + b"x" * 100)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


@contextmanager
def log_in(folder: Path, **options):
    log = EventLog(folder, sync_seconds=0.01, retry_seconds=0.02, **options)
    try:
        yield log
    finally:
        log.close()


def until(happened, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def open_segments(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{OPEN}"))


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    while (acknowledged := int(process.stdout.readline())) < 300:
        pass
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split(b"\n")[:-1]
    acknowledged = int(rest[-1]) if rest else acknowledged
    numbers = [int(line.split()[0]) for line in read(tmp_path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > acknowledged >= 300


def test_several_lines_at_once_are_several_lines_written_at_once(tmp_path, monkeypatch):
    writes = []
    write = os.write
    monkeypatch.setattr(segments.os, "write", lambda file, whole: writes.append(whole) or write(file, whole))
    with log_in(tmp_path) as log:
        log.extend([b"one", b"two"])
        log.extend([])
        log.extend((b"three",))
        assert list(read(tmp_path)) == [b"one", b"two", b"three"]
        assert [whole for whole in writes if whole] == [b"one\ntwo\n", b"three\n"]


def test_several_lines_at_once_of_which_not_all_fit_are_all_dropped_and_counted(tmp_path):
    with log_in(tmp_path) as log:
        log.append(b"before")
        with disk_full_at(100):
            log.extend([b"x" * 40] * 5)
        assert log.dropped == 5
        until(lambda: log.append(b"after") or b"after" in read(tmp_path))
        assert set(read(tmp_path)) == {b"before", b"after"}


def test_a_torn_last_line_is_not_read_and_is_cut_at_the_next_start(tmp_path):
    (tmp_path / f"1-dead-000001{OPEN}").write_bytes(b"one\ntwo\nthr")
    (tmp_path / f"2-dead-000002{OPEN}").write_bytes(b"torn")
    assert list(read(tmp_path)) == [b"one", b"two"]
    with log_in(tmp_path):
        assert (tmp_path / "1-dead-000001.jsonl").read_bytes() == b"one\ntwo\n"
        assert not list(tmp_path.glob("2-*"))


def test_the_segment_of_a_living_process_is_left_alone(tmp_path):
    with log_in(tmp_path) as log:
        log.append(b"one")
        recover(tmp_path)
        assert len(open_segments(tmp_path)) == 1
        log.append(b"two")
        assert list(read(tmp_path)) == [b"one", b"two"]


def test_a_segment_that_another_process_recovers_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    real, taken = segments._locked, []

    def raced(path):
        if not taken:
            taken.append(path.touch())
            recover(tmp_path)
            assert not path.exists()
            path.touch()
            file = real(path)
            path.unlink()
            return file
        return real(path)

    monkeypatch.setattr(segments, "_locked", raced)
    with log_in(tmp_path) as log:
        log.append(b"one")
        assert list(read(tmp_path)) == [b"one"]
        assert log.dropped == 0


def test_segments_are_sealed_when_full(tmp_path):
    with log_in(tmp_path, segment_bytes=100) as log:
        for number in range(50):
            log.append(b"%09d" % number)
        until(lambda: len(open_segments(tmp_path)) <= 1)
        assert len(list(tmp_path.iterdir())) >= 5
    assert not open_segments(tmp_path)
    assert [int(line) for line in read(tmp_path)] == list(range(50))


def test_segments_are_sealed_when_old(tmp_path):
    with log_in(tmp_path, segment_seconds=0.0) as log:
        log.append(b"one")
        until(lambda: not open_segments(tmp_path))
        log.append(b"two")
        assert list(read(tmp_path)) == [b"one", b"two"]


def test_logs_of_several_processes_are_merged_by_the_time_of_their_lines(tmp_path):
    with log_in(tmp_path, segment_bytes=1) as first, log_in(tmp_path) as second:
        for number in range(10):
            (first if number % 3 else second).append(b"%d" % number)
        assert list(read(tmp_path, at=int)) == [b"%d" % number for number in range(10)]
        assert tail(tmp_path, 4, at=int) == [b"6", b"7", b"8", b"9"]
        assert sorted(read(tmp_path)) == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("n", [0, 1, 3, 10, 99])
def test_the_tail_is_the_last_lines_across_segments(tmp_path, n):
    with log_in(tmp_path, segment_bytes=4) as log:
        for number in range(10):
            log.append(b"%d" % number)
        expected = [b"%d" % number for number in range(10)][-n:] if n else []
        assert tail(tmp_path, n) == expected
        assert tail(tmp_path, n, at=int) == expected


def test_a_folder_that_is_not_there_reads_as_empty(tmp_path):
    assert list(read(tmp_path / "none")) == []
    assert tail(tmp_path / "none", 5) == []


def test_many_threads_lose_and_tear_nothing(tmp_path):
    with log_in(tmp_path, segment_bytes=2_000) as log:
        threads = [
            threading.Thread(target=lambda start=start: [log.append(b"%d" % (start + n)) for n in range(500)])
            for start in (0, 500, 1000, 1500)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(int(line) for line in read(tmp_path)) == list(range(2000))


@contextmanager
def disk_full_at(size: int):
    """No file may grow beyond `size` bytes in this process, and the kernel cuts writes short there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_drops_whole_lines_counts_them_and_recovers(tmp_path):
    with log_in(tmp_path) as log:
        with disk_full_at(25):
            for number in range(10):
                log.append(b"%09d" % number)
        assert log.dropped == 8
        assert [int(line) for line in read(tmp_path)] == [0, 1]
        until(lambda: log.append(b"back") or list(read(tmp_path))[-1] == b"back")
        assert all(path.read_bytes().endswith(b"\n") for path in tmp_path.iterdir())


FULL_DISK = """
import json, sys, time
from pathlib import Path
from stores.log.event_log import EventLog
from stores.log.reader import read

disk, told = Path(sys.argv[1]), []
(disk / "filler").write_bytes(b"x" * 100_000)
log = EventLog(disk / "logs", sync_seconds=0.01, retry_seconds=0.02, alert=lambda *words: told.append(words))
written = [b"%06d" % number + b"x" * 2_000 for number in range(100)]
for line in written:
    log.append(line)
held, dropped = list(read(disk / "logs")), log.dropped
assert 0 < len(held) < 60 and dropped == 100 - len(held) and held == written[:len(held)], (len(held), dropped)
while not told:
    time.sleep(0.01)
assert told[0][1] is True
(disk / "filler").unlink()
deadline = time.monotonic() + 5
while list(read(disk / "logs"))[-1] != b"back":
    assert time.monotonic() < deadline
    log.append(b"back")
    time.sleep(0.01)
while told[-1] != (log.dropped, False):
    assert time.monotonic() < deadline
    time.sleep(0.01)
log.close()
print(sum(json.loads(line)["lines"] for line in (disk / "logs" / "dropped").read_text().splitlines()) == log.dropped)
"""


def test_a_file_system_that_is_really_full_stops_nothing_and_is_told(tmp_path):
    """One of 200 kB, mounted for this process alone, where the system lets it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=200k none "{disk}" || exit 77; exec "{sys.executable}" -c "$0" "{disk}"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, FULL_DISK]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no unshare on this machine")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nothing may be mounted on this machine")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_disk_with_no_room_at_all_leaves_no_litter(tmp_path):
    with log_in(tmp_path) as log:
        with disk_full_at(0):
            until(lambda: log.append(b"lost") or log.dropped > 20)
            time.sleep(0.05)
            log.append(b"lost")
        until(lambda: len(list(tmp_path.glob("*.jsonl"))) <= 1)


def test_dropped_lines_are_told_at_once_and_put_on_record_when_there_is_room_again(tmp_path):
    told = []
    with log_in(tmp_path, alert=lambda dropped, still: told.append((dropped, still))) as log:
        with disk_full_at(0):
            log.append(b"lost")
            until(lambda: told)
            for _ in range(4):
                log.append(b"lost")
            time.sleep(0.1)
            assert told == [(1, True)]  # not once for each line
        until(lambda: told[-1] == (5, False))
        log.append(b"back")
        [record] = map(json.loads, (tmp_path / DROPPED).read_text().splitlines())
        assert record["lines"] == 5
        assert record["since"] <= record["until"] <= time.time()
        with disk_full_at(0):
            until(lambda: log.append(b"lost") or told[-1][1])
        until(lambda: told[-1] == (log.dropped, False))
    records = [json.loads(line)["lines"] for line in (tmp_path / DROPPED).read_text().splitlines()]
    assert sum(records) == log.dropped
    assert list(read(tmp_path)) == [b"back"]


def test_an_alert_that_fails_leaves_the_log_at_work(tmp_path):
    def to_the_same_disk(dropped, still):
        raise OSError(28, "No space left on device")

    with log_in(tmp_path, alert=to_the_same_disk) as log:
        with disk_full_at(0):
            log.append(b"lost")
            time.sleep(0.1)
        until(lambda: (tmp_path / DROPPED).exists())
        log.append(b"back")
        assert seal(tmp_path, 5.0) == []
    assert list(read(tmp_path)) == [b"back"]


def test_writers_seal_what_they_have_when_they_are_asked(tmp_path):
    with log_in(tmp_path) as one, log_in(tmp_path) as other:
        one.append(b"one")
        other.append(b"other")
        assert seal(tmp_path, 5.0) == []
        assert open_segments(tmp_path) == []
        one.append(b"more")
        time.sleep(0.05)
        assert len(open_segments(tmp_path)) == 1  # asked once, sealed once
        assert sorted(read(tmp_path)) == [b"more", b"one", b"other"]


def test_a_writer_that_does_not_answer_is_named(tmp_path):
    log = EventLog(tmp_path, sync_seconds=60.0)
    log.append(b"one")
    assert seal(tmp_path, 0.05) == open_segments(tmp_path)
    log.close()
    assert seal(tmp_path, 0.05) == []


def test_a_folder_that_cannot_be_made_drops_and_recovers_when_it_can(tmp_path):
    (tmp_path / "logs").write_text("a file is in the way")
    with log_in(tmp_path / "logs") as log:
        log.append(b"lost")
        assert log.dropped == 1
        (tmp_path / "logs").unlink()
        until(lambda: log.append(b"back") or list(read(tmp_path / "logs")))


def test_a_folder_that_vanishes_is_noticed_counted_and_made_again(tmp_path):
    with log_in(tmp_path / "logs") as log:
        log.append(b"lost")
        shutil.rmtree(tmp_path / "logs")
        until(lambda: log.dropped == 1)
        log.append(b"back")
        assert list(read(tmp_path / "logs")) == [b"back"]


def test_what_was_written_to_a_folder_that_vanished_just_before_the_end_is_counted_too(tmp_path):
    log = EventLog(tmp_path / "logs", sync_seconds=60.0)
    log.append(b"one")
    shutil.rmtree(tmp_path / "logs")
    log.close()
    assert log.dropped == 1
    assert json.loads((tmp_path / "logs" / DROPPED).read_text())["lines"] == 1


def test_appending_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    synced, release = threading.Event(), threading.Event()
    monkeypatch.setattr(os, "fsync", lambda file: (synced.set(), release.wait(5)))
    with log_in(tmp_path) as log:
        log.append(b"one")
        assert synced.wait(5)
        started = time.monotonic()
        log.append(b"two")
        assert time.monotonic() - started < 1
        release.set()
