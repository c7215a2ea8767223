"""Compaction: days of Parquet that read as the segments did, whatever happens on the way."""

import os
import random
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kiosk import DAY, NOW, kiosk

from decisioning.domain import Event
from decisioning.errors import UserError
from stores.log import chunks as log_chunks
from stores.log import parts as log_parts
from stores.log import table as log_table
from stores.log.chunks import RowGroup, chunks, last_line, latest, lines, moment_of_last
from stores.log.columns import moment
from stores.log.compaction import compact, locked
from stores.log.decision_log import decided_at, decode, encode, event_line
from stores.log.event_log import EventLog
from stores.log.reader import read, tail
from stores.log.segments import OPEN, segments
from stores.log.table import MANIFEST, read_table, table_folder

ROOT = Path(__file__).parents[3]


def at(line: bytes) -> float:
    return float(line.split(b'"at":')[1].split(b",")[0].split(b"}")[0])


def event(number: int, seconds: float, **more) -> bytes:
    known = {"event_id": f"e{number}", "decision_id": f"d{number}", "type": "click", "offer": "annual", "user": "u"}
    return event_line(Event(**known | {"surface": "banner", "at": seconds} | more))


def segment(log: Path, written, *, writer: str = "1.a", number: int = 1, tail: bytes = b"", suffix: str = ".jsonl"):
    log.mkdir(parents=True, exist_ok=True)
    path = log / f"{number:013d}-{writer}-{number:06d}{suffix}"
    path.write_bytes(b"".join(line + b"\n" for line in written) + tail)
    return path


@pytest.fixture
def events(tmp_path) -> Path:
    return tmp_path / "logs" / "events"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    own = kiosk(tmp_path_factory.mktemp("home"))
    own.log(own.records(400, days=5.0, users=40))
    return own


def test_days_hold_every_line_once_in_order_and_the_segments_are_gone(shop, tmp_path):
    for name, moment_of in (("decisions", decided_at), ("events", at)):
        log = tmp_path / name
        shutil_copy(shop.home.logs / name, log)
        before = list(read(log))
        done = compact(log)
        after = list(read(log))
        assert done.lines == len(before) == len(after)
        assert Counter(after) == Counter(before)
        assert after == sorted(after, key=moment_of)
        assert not segments(log)
        days = {f"day={moment(moment_of(line)).date()}" for line in before}
        assert {path.name for path in table_folder(log).glob("day=*")} == days


def shutil_copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def test_analysts_find_typed_columns_and_the_exact_line(shop, tmp_path):
    log = tmp_path / "decisions"
    shutil_copy(shop.home.logs / "decisions", log)
    compact(log)
    found = ds.dataset(table_folder(log), partitioning="hive").to_table().to_pylist()
    assert len(found) == 400
    for row in found:
        record = decode(row["line"])
        assert encode(record) == row["line"]
        assert (row["decision_id"], row["user"]) == (record.decision.decision_id, record.request.user)
        assert (row["offer"], row["surface"]) == (record.decision.first, record.request.surface)
        assert row["at"] == moment(record.request.now)
        assert str(row["day"]) == f"{row['at']:%Y-%m-%d}"
        assert row["offers"] == [one.offer for one in record.decision.slate]
        assert row["probability"] == (record.decision.slate[0].probability if record.decision.slate else None)
        assert row["drawn"] is (record.decision.policy is not None)


def test_an_event_reported_again_is_one_and_events_of_other_decisions_are_their_own(events):
    first, later, elsewhere = event(1, NOW), event(1, NOW + 60), event(1, NOW, decision_id="d9")
    segment(events, [later, first, first], number=1)
    segment(events, [first, elsewhere], number=2)
    done = compact(events)
    assert done.duplicates == 3
    assert Counter(read(events)) == Counter([first, elsewhere])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=6), min_size=1, max_size=5))
def test_an_event_that_was_dated_to_several_days_is_one_whichever_came_first(tmp_path_factory, nights):
    log, known = tmp_path_factory.mktemp("home") / "logs" / "events", {}
    for night, reports in enumerate(nights, 1):
        segment(log, [event(number, NOW + day * DAY) for number, day in reports], number=night)
        for number, day in reports:
            known[number] = min(day, known.get(number, day))
        compact(log)
    assert sorted(read(log)) == sorted(event(number, NOW + day * DAY) for number, day in known.items())
    assert sum(part.rows for part in read_table(log).parts) == len(known)
    days = [part.day for part in read_table(log).parts]
    assert sorted(path.parent.name for path in table_folder(log).glob("day=*/*")) == [f"day={day}" for day in days]


def test_days_that_an_event_was_not_dated_to_are_left_as_they_are(events):
    segment(events, [event(1, NOW), event(2, NOW + DAY)])
    compact(events)
    segment(events, [event(1, NOW + 2 * DAY), event(1, NOW + 60 * DAY)], number=2)
    done = compact(events)
    assert (done.duplicates, done.days) == (2, (str(moment(NOW + 2 * DAY).date()), str(moment(NOW + 60 * DAY).date())))
    assert list(read(events)) == [event(1, NOW), event(2, NOW + DAY)]
    segment(events, [event(2, NOW + 60 * DAY)], number=3)
    compact(events)
    assert len(list(read(events))) == 3  # so far apart is not looked for


def test_records_that_share_an_id_stay_unless_they_are_equal_to_the_byte(shop, tmp_path):
    log = tmp_path / "logs" / "decisions"
    [line] = [encode(record) for record in shop.records(1)]
    corrected = line.replace(b'"now":1', b'"now":2')
    assert corrected != line
    segment(log, [line, corrected, line])
    assert compact(log).duplicates == 1
    assert list(read(log)) == [line, corrected]


def test_late_lines_are_merged_into_their_day_and_other_days_are_left_as_they_are(events):
    segment(events, [event(1, NOW), event(2, NOW + DAY)], number=1)
    compact(events)
    [_, other] = read_table(events).parts
    segment(events, [event(3, NOW - 5), event(4, NOW + 5)], number=2)
    done = compact(events)
    assert done.lines == 3
    assert [at(line) for line in read(events)] == [NOW - 5, NOW, NOW + 5, NOW + DAY]
    assert other in read_table(events).parts
    assert len(list(table_folder(events).glob("day=*/*"))) == 2


def test_compacting_again_changes_nothing(events):
    segment(events, [event(1, NOW)])
    compact(events)
    before = {path: path.stat().st_mtime_ns for path in table_folder(events).rglob("*.parquet")}
    assert compact(events).segments == 0
    assert {path: path.stat().st_mtime_ns for path in table_folder(events).rglob("*.parquet")} == before


def test_segments_that_are_kept_count_no_more(events):
    path = segment(events, [event(1, NOW)])
    assert compact(events, keep=True).waiting == 1
    assert path.exists()
    assert len(list(read(events))) == 1
    assert compact(events, keep=True).segments == 0
    compact(events)
    assert not path.exists()
    assert len(list(read(events))) == 1


def test_what_a_living_server_writes_is_left_to_it(events):
    log = EventLog(events)
    log.append(event(1, NOW))
    assert compact(events).segments == 0
    log.append(event(2, NOW))
    assert len(list(read(events))) == 2
    log.close()
    assert compact(events).segments == 1
    assert len(list(read(events))) == 2


def test_the_segment_of_a_dead_server_is_sealed_and_taken_in(events):
    segment(events, [event(1, NOW)], tail=b'{"torn', suffix=OPEN)
    assert compact(events).lines == 1


def test_lines_that_nobody_can_read_are_kept_without_a_day(events):
    odd = [b"no json", b"no json", b'{"event_id": 1}', event(2, 1e300), event(3, -5.0)]
    segment(events, [*odd, event(1, NOW)])
    compact(events)
    assert Counter(read(events)) == Counter([*odd, event(1, NOW)])
    assert [part.day is None for part in read_table(events).parts] == [True, False]
    frame = ds.dataset(table_folder(events), partitioning="hive").to_table()
    assert frame["day"].null_count == 5
    assert {line for part in chunks(events, None, at) for line in lines(part)} == {*odd, event(1, NOW)}
    assert [line for part in chunks(events, NOW, at) for line in lines(part)] == [event(1, NOW)]


def test_two_compactions_at_once_are_refused(events):
    segment(events, [event(1, NOW)])
    with locked(events), pytest.raises(UserError, match="wait until it ends"):
        compact(events)
    assert compact(events).lines == 1


def test_a_reader_whose_log_is_compacted_underneath_is_told(events):
    segment(events, [event(1, NOW)])
    parts, reading = chunks(events, None, at), read(events)
    compact(events)
    for unlucky in (lines(parts[0]), reading):
        with pytest.raises(UserError, match="run this again"):
            list(unlucky)
    parts, reading = chunks(events, None, at), read(events)
    segment(events, [event(2, NOW)], number=2)
    compact(events)
    for unlucky in (lines(parts[0]), reading):
        with pytest.raises(UserError, match="run this again"):
            list(unlucky)


def test_a_compaction_between_two_looks_at_the_folder_hides_no_line(events, monkeypatch):
    segment(events, [event(1, NOW)])

    def too_late(log):
        monkeypatch.undo()
        compact(log)
        return segments(log)

    monkeypatch.setattr(log_table, "segments", too_late)
    assert list(read(events)) == [event(1, NOW)]


def test_a_damaged_manifest_is_named(events):
    segment(events, [event(1, NOW)])
    compact(events)
    (table_folder(events) / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        list(read(events))


# --- As if nothing had happened ---------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_readers_cannot_tell_what_was_compacted(tmp_path_factory, data):
    """Two logs of the same lines: one compacted again and again on the way, one never."""
    root = tmp_path_factory.mktemp("logs")
    plain, compacted = root / "plain" / "events", root / "compacted" / "events"
    moments = data.draw(st.lists(st.integers(0, 4 * int(DAY)), min_size=1, max_size=40, unique=True))
    cuts = data.draw(st.lists(st.booleans(), min_size=len(moments), max_size=len(moments)))
    held: list[bytes] = []
    for number, (seconds, cut) in enumerate(zip(sorted(moments), cuts, strict=True)):
        held.append(event(number, NOW + seconds))
        if cut or number == len(moments) - 1:
            for log in (plain, compacted):
                segment(log, held, writer=f"{number % 2}.w", number=number + 1)
            held = []
            if data.draw(st.booleans()):
                compact(compacted, batch_bytes=data.draw(st.sampled_from([1, 300, 10**6])))
    assert list(read(compacted, at)) == list(read(plain, at))
    assert sorted(read(compacted)) == sorted(read(plain))
    n = data.draw(st.integers(0, 50))
    assert tail(compacted, n, at) == tail(plain, n, at)
    assert moment_of_last(compacted, n + 1, at) == moment_of_last(plain, n + 1, at)
    assert (latest(compacted, at), last_line(compacted, at)) == (latest(plain, at), last_line(plain, at))
    since = data.draw(st.none() | st.floats(NOW, NOW + 5 * DAY))
    found, expected = (
        sorted(line for part in chunks(log, since, at) for line in lines(part) if since is None or at(line) >= since)
        for log in (compacted, plain)
    )
    assert found == expected


def test_a_day_is_the_same_whatever_order_its_lines_came_in_and_however_small_the_memory(tmp_path):
    dice = random.Random(1)
    known = [event(number % 50, NOW + dice.randrange(100)) for number in range(200)]
    tables = []
    for trial in range(3):
        log = tmp_path / str(trial) / "events"
        dice.shuffle(known)
        for number in range(4):
            segment(log, known[number * 50 : number * 50 + 50], number=number + 1)
            if trial == 2:
                compact(log, batch_bytes=200)
        compact(log, batch_bytes=10**9 if trial else 500)
        tables.append(list(read(log)))
    assert tables[0] == tables[1] == tables[2]


def test_a_large_backlog_needs_few_open_files(tmp_path):
    dice, logs = random.Random(2), [tmp_path / name / "events" for name in ("much", "little")]
    known = [event(number % 900, NOW + dice.randrange(100)) for number in range(1_000)]
    for log, size in zip(logs, (100, 10**9), strict=True):
        for number in (1, 2):
            segment(log, known[500 * (number - 1) : 500 * number], number=number)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, before[1]))
            try:
                assert compact(log, batch_bytes=size).segments == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert list(read(logs[0])) == list(read(logs[1]))


def test_large_days_become_several_parts_of_several_row_groups(events, monkeypatch):
    monkeypatch.setattr(log_parts, "GROUP_BYTES", 1_000)
    monkeypatch.setattr(log_parts, "PART_BYTES", 3_000)
    known = [event(number, NOW + number) for number in range(60)]
    segment(events, known)
    compact(events)
    parts = read_table(events).parts
    assert len(parts) > 2
    pieces = chunks(events, None, at)
    assert len(pieces) > len(parts)
    assert all(isinstance(piece, RowGroup) and 0 < piece.size < 3_000 for piece in pieces)
    assert [line for piece in pieces for line in lines(piece)] == known == list(read(events))
    assert tail(events, 7) == known[-7:]
    assert moment_of_last(events, 20, at) == NOW + 40
    assert log_chunks.last_line(events, at) == known[-1]


# --- Killed at every step ---------------------------------------------------------------------------------------------

COMPACT_AGAIN_AND_AGAIN = """
import shutil, sys
from pathlib import Path
from killing import killed_before
from stores.log.compaction import compact
from stores.log.reader import read

root = Path(sys.argv[1])
known = sorted(read(root / "start" / "events"))
once, fatal, alive = sorted(set(known)), 0, False
assert len(known) == len(once) + 1
while not alive:
    fatal += 1
    log = root / str(fatal) / "events"
    shutil.copytree(root / "start", log.parent)
    alive = not killed_before(fatal, lambda: compact(log))
    assert sorted(read(log)) in (known, once), f"killed before step {fatal}"
    compact(log)
    assert sorted(read(log)) == once, f"after step {fatal} and another compaction"
    left = [path.name for path in log.parent.rglob("*") if path.is_file()]
    assert not [name for name in left if "draft" in name or name.endswith(".jsonl")], left
    assert len([name for name in left if name.startswith("part-")]) == 3, left
print(fatal)
"""


def test_a_compaction_that_is_killed_before_any_step_loses_nothing_and_doubles_nothing(tmp_path):
    """Each attempt is a process of its own, really killed; it merges two segments into a day that is there already."""
    log = tmp_path / "start" / "events"
    segment(log, [event(number, NOW + number * DAY / 3) for number in range(5)], number=1)
    compact(log)
    segment(log, [event(9, NOW + 1), event(3, NOW + DAY)], number=2)
    segment(log, [event(10, NOW + 2 * DAY)], number=3, tail=b"torn", suffix=OPEN)
    done = python("-c", COMPACT_AGAIN_AND_AGAIN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def python(*words) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
