"""The disk of the logs is full, gone, or the process dies in the middle: every request is answered, and what was lost
is counted and told."""

import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from figures import Figures

from stores.log import reader as log_reader
from stores.log.decision_log import decode, decode_event

RECOVERED_WITHIN = 5.0
"""The log tries again every second."""


def logged(home) -> set[str]:
    return {decode(line).decision.decision_id for line in log_reader.read(home.logs / "decisions")}


def figure(server, name: str, **labels: str) -> float:
    return Figures(server.http.get("/metrics").content)(name, **labels)


@contextmanager
def no_room_for(server):
    """Every write of the server to a file fails from now on, as on a full disk."""
    for pid in processes(server.process.pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in processes(server.process.pid):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def processes(pid: int) -> list[int]:
    """A process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return [pid, *(one for child in children for one in processes(child))]


@contextmanager
def full(folder):
    """A file that takes whatever room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def small_disk(home):
    """A file system of its own for the logs, of a quarter of a megabyte."""
    home.logs.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", home.logs]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system; the test below has another kind of a full disk")
    yield home.logs
    subprocess.run(["umount", "-l", home.logs], check=True)


def test_a_disk_that_is_full(serve, home, within, small_disk):
    endures(serve(""), home, within, lambda server: full(small_disk))


def test_files_that_may_grow_no_more(serve, home, within):
    endures(serve(""), home, within, no_room_for)


def endures(server, home, within, fault) -> None:
    """What the matrix asks of a disk without room, from before it until after it."""
    before = {server.decide("strip")["decision_id"] for _ in range(5)}
    answered = set(before)
    with fault(server):
        for _ in range(50):
            answer = server.decide("strip")
            assert answer["offers"]
            answered.add(answer["decision_id"])
        within(3.0, lambda: "log_dropping" in server.events())
        within(3.0, lambda: server.report("lost")["degraded"] == ["log:failed"])
        within(3.0, lambda: dropped(server, "decisions") == len(answered - logged(home)) > 25)

    def is_logged_again() -> bool:
        answered.add(last := server.decide("strip")["decision_id"])
        return last in logged(home)

    within(RECOVERED_WITHIN, is_logged_again)
    within(RECOVERED_WITHIN, lambda: server.report("lost")["degraded"] == [])
    within(3.0, lambda: "log_recovered" in server.events())
    assert before <= logged(home)
    missing = len(answered - logged(home))
    within(3.0, lambda: on_record(home, "decisions") == dropped(server, "decisions") == missing)


def test_a_folder_of_logs_that_is_gone(serve, home, within):
    server = serve("")
    server.decide("strip")
    shutil.rmtree(home.logs)
    home.logs.touch()
    for _ in range(50):
        assert server.decide("strip")["offers"]
    within(3.0, lambda: "log_dropping" in server.events())
    within(3.0, lambda: server.report("lost")["degraded"] == ["log:failed"])
    home.logs.unlink()
    within(RECOVERED_WITHIN, lambda: server.decide("strip")["decision_id"] in logged(home))
    within(RECOVERED_WITHIN, lambda: server.report("kept")["degraded"] == [])
    assert "kept" in {decode_event(line).event_id for line in log_reader.read(home.logs / "events")}
    within(3.0, lambda: on_record(home, "decisions") >= 50)


def dropped(server, log: str) -> float:
    return figure(server, "segue_log_dropped_lines_total", log=log)


def on_record(home, log: str) -> int:
    """How many lines the file beside the segments says were dropped."""
    file = home.logs / log / "dropped"
    return sum(json.loads(line)["lines"] for line in file.read_text().splitlines()) if file.exists() else 0


def test_a_write_that_only_half_fits_leaves_no_half_line(serve, home, within):
    """The limit of a file's size cuts a write short: what was written of the line is taken back."""
    server = serve("")
    server.decide("strip")
    (segment,) = (home.logs / "decisions").glob("*.open.jsonl")
    for pid in processes(server.process.pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (segment.stat().st_size + 100, resource.RLIM_INFINITY))
    for _ in range(5):
        server.decide("strip")
    for pid in processes(server.process.pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    within(RECOVERED_WITHIN, lambda: server.decide("strip")["decision_id"] in logged(home))
    for file in (home.logs / "decisions").glob("*.jsonl"):
        content = file.read_bytes()
        assert content == b"" or content.endswith(b"\n")
        for line in content.splitlines():
            decode(line)


def test_kill_9_in_the_middle_of_a_write_costs_that_line_alone(serve, home):
    """Under load; and the line that was being written is cut at the next start."""
    server = serve("")
    answered: list[str] = []

    def ask() -> None:
        try:
            while True:
                answered.append(server.decide("strip")["decision_id"])
        except Exception:  # noqa: BLE001  the server is gone
            return

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    while len(answered) < 100:
        time.sleep(0.01)
    for pid in processes(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        client.join()
    (segment,) = (home.logs / "decisions").glob("*.open.jsonl")
    whole = segment.read_bytes()
    with segment.open("ab") as file:
        file.write(whole[: whole.index(b"\n") // 2])
    assert set(answered) <= logged(home), "readers leave out the torn line, while it is there …"
    serve("")
    sealed = segment.with_name(segment.name.replace(".open.jsonl", ".jsonl"))
    assert sealed.read_bytes() == whole, "… and a server that starts cuts it off"
    assert set(answered) <= logged(home)
