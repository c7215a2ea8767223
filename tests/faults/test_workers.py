"""Several workers behind one port: what becomes of requests when workers come, go, are killed, or lose their parent."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from activating import activate, in_use
from steady_load import SteadyLoad

from stores.log import reader as log_reader
from stores.log.decision_log import decode

REPOSITORY = Path(__file__).parents[2]
STRIP = {"surface": "strip"}


@pytest.fixture
def pair(serve):
    """A server of two workers."""
    return serve("", "--workers", "2", "--drain", "0.5")


def workers(server) -> list[dict]:
    """By a connection of its own: one that stays open and idle keeps a worker that retires waiting."""
    return httpx.get(f"{server.http.base_url}/version").json()["workers"]


def pids(server) -> set[int]:
    return {one["pid"] for one in workers(server) if one["state"] == "serving"}


def load(server, clients: int = 4) -> SteadyLoad:
    return SteadyLoad(server.http.base_url.host, server.http.base_url.port, STRIP, clients)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def logged(home) -> set[str]:
    return {decode(line).decision.decision_id for line in log_reader.read(home.logs / "decisions")}


def test_version_tells_of_every_worker_whoever_answers(team):
    told = workers(team)
    assert [one["state"] for one in told] == ["serving", "serving"]
    assert len({one["pid"] for one in told}) == 2
    assert len({one["release"] for one in told}) == 1
    assert team.process.pid not in {one["pid"] for one in told}


def test_connections_that_stay_open_are_spread_over_the_workers(team):
    answering: Counter[int] = Counter()
    with ExitStack() as stack:
        for _ in range(16):
            client = stack.enter_context(closing(http.client.HTTPConnection(*address(team), timeout=10)))
            client.request("GET", "/version")
            answering[json.loads(client.getresponse().read())["worker"]] += 1
    assert min(answering.values()) >= 4, answering
    assert len(answering) == 2


def address(server) -> tuple[str, int]:
    return server.http.base_url.host, server.http.base_url.port


def test_a_rolling_restart_under_load_fails_no_request(team, team_home, within):
    before = pids(team)
    with load(team) as asked:
        asked.more(200)
        team.process.send_signal(signal.SIGHUP)
        within(30.0, lambda: "rolled" in team.events())
        asked.more(200)
    assert asked.failed == []
    assert len(pids(team)) == 2
    assert pids(team).isdisjoint(before)
    assert not any(map(lives, before))
    assert {one.answer["decision_id"] for one in asked.answers} <= logged(team_home)


def test_a_worker_that_is_told_to_end_leaves_without_a_failed_request_and_is_replaced(team, within):
    gone = min(pids(team))
    with load(team) as asked:
        asked.more(100)
        os.kill(gone, signal.SIGTERM)
        within(20.0, lambda: not lives(gone) and len(pids(team)) == 2)
        asked.more(100)
    assert asked.failed == []


def test_kill_9_of_a_worker_costs_what_it_was_answering_and_nothing_more(team, team_home, within):
    victim = min(pids(team))
    with load(team) as asked:
        asked.more(100)
        os.kill(victim, signal.SIGKILL)
        within(20.0, lambda: victim not in pids(team) and len(pids(team)) == 2)
        asked.more(100)
    assert "worker_died" in team.events()
    assert len(asked.failed) <= 4, "one request at most of each client was in the hands of the one that died"
    assert not list((team_home.logs / "decisions").glob(f"*-{victim}.*.open.jsonl")), "the next one sealed its log"
    assert {one.answer["decision_id"] for one in asked.answers} <= logged(team_home)


def test_workers_that_cannot_start_stop_a_rolling_restart_and_the_old_ones_serve_on(team, team_home, within):
    before = pids(team)
    key = (team_home.path / "secret.key").read_text()
    (team_home.path / "secret.key").write_text("no key")
    team.process.send_signal(signal.SIGHUP)
    within(20.0, lambda: "rolling_stopped" in team.events())
    (team_home.path / "secret.key").write_text(key)
    assert pids(team) == before
    assert team.decide("strip")["offers"]


def test_a_scout_that_is_killed_is_replaced_and_releases_are_followed_on(team, team_home, within):
    scout = next(pid for pid in children(team.process.pid) if pid not in pids(team))
    os.kill(scout, signal.SIGKILL)
    within(10.0, lambda: "scout_died" in team.events())
    files = in_use(team_home)
    new = activate(team_home, {"catalog/all.yaml": files["catalog/all.yaml"].replace(b"poster", b"placard")})
    within(20.0, lambda: {one["release"] for one in workers(team)} == {new})


def test_sigterm_under_load_answers_on_for_a_while_and_loses_nothing_that_was_answered(pair, home, within):
    with load(pair) as asked:
        asked.more(100)
        told = time.monotonic()
        pair.process.send_signal(signal.SIGTERM)
        within(5.0, lambda: not_ready(pair))
        asked.more(20)
        assert pair.process.wait(20) == 0
    assert [one for one in asked.answers if one.at > told + 0.2], "it answered on, while it was not ready"
    assert {one.answer["decision_id"] for one in asked.answers} <= logged(home)
    assert pair.events().count("ending") == 1
    assert "supervisor_gone" not in pair.events()
    assert "worker_killed" not in pair.events()


def not_ready(server) -> bool:
    answer = httpx.get(f"{server.http.base_url}/readyz")
    return answer.status_code == 503 and answer.headers["connection"] == "close"


def test_told_a_second_time_it_ends_at_once(serve, within):
    server = serve("", "--workers", "2", "--drain", "60")
    server.process.send_signal(signal.SIGTERM)
    within(5.0, lambda: not_ready(server))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(15) == 0


def test_ctrl_c_reaches_every_process_at_once_and_ends_the_server_well(home):
    command = [sys.executable, "-m", "serving", "--home", home.path, "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert any(json.loads(line)["event"] == "serving" for line in server.stderr)
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        rest = [json.loads(line)["event"] for line in server.stderr]
        assert server.wait(20) == 0
    assert not {"worker_failed", "worker_died", "worker_killed", "child_failed", "supervisor_gone"} & set(rest)


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_a_free_port(pair, home, within):
    left = pids(pair)
    host, port = address(pair)
    last = pair.decide("strip")["decision_id"]
    pair.process.kill()
    within(20.0, lambda: not any(map(lives, left)))
    assert pair.events().count("supervisor_gone") == 2
    assert last in logged(home)
    assert not list((home.logs / "decisions").glob("*.open.jsonl"))
    command = [sys.executable, "-m", "serving", "--home", home.path, "--host", host, "--port", str(port)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as successor:
        try:
            assert any(json.loads(line)["event"] == "serving" for line in successor.stderr)
        finally:
            successor.terminate()


def test_a_worker_that_hangs_leaves_new_connections_to_its_peer(team, within):
    hanging = min(pids(team))
    os.kill(hanging, signal.SIGSTOP)
    try:
        asked = [httpx.get(f"{team.http.base_url}/healthz", timeout=10).status_code for _ in range(20)]
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert asked == [200] * 20
    within(10.0, lambda: len(pids(team)) == 2)


IMPATIENT = """
import sys
from serving.processes import child
child.HANGS_AFTER = 1.0
sys.argv[1:] = {arguments}
from serving.__main__ import main
main()
"""


def test_a_worker_that_hangs_for_long_is_killed_and_replaced(home):
    command = [sys.executable, "-c", IMPATIENT.format(arguments=["--home", str(home.path), "--port", "0"])]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as server:
        lines = (json.loads(line) for line in server.stderr)
        url = next(line["url"] for line in lines if line["event"] == "serving")
        (worker,) = httpx.get(f"{url}/version").json()["workers"]
        os.kill(worker["pid"], signal.SIGSTOP)
        killed = next(line for line in lines if line["event"] == "worker_killed")
        assert (killed["killed"], killed["why"]) == (worker["pid"], "it hangs")
        (successor,) = httpx.get(f"{url}/version", timeout=20).json()["workers"]
        assert successor["pid"] != worker["pid"]
        server.terminate()
        server.stderr.read()
        assert server.wait(20) == 0


STILLBORN = """
import os, sys
from serving.processes import supervisor
supervisor.work = lambda *told: os._exit(7)
sys.argv[1:] = {arguments}
from serving.__main__ import main
main()
"""


def test_workers_that_die_at_once_again_and_again_end_the_server_with_a_clear_message(home):
    arguments = ["--home", str(home.path), "--port", "0", "--workers", "2"]
    command = [sys.executable, "-c", STILLBORN.format(arguments=arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "The server gives up: 5 workers in a row ended before they served (the last one: exit code 7)" in done.stderr
    assert "Traceback" not in done.stderr


UNDECIDED = """
import sys, time
from serving.processes import scout
scout.examine = lambda *told: time.sleep(60)
sys.argv[1:] = {arguments}
from serving.__main__ import main
main()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_server_that_ends_while_its_first_release_is_still_tried_leaves_nobody_behind(home, within, end):
    command = [sys.executable, "-c", UNDECIDED.format(arguments=["--home", str(home.path), "--port", "0"])]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as server:
        within(20.0, lambda: sum(len(children(child)) for child in children(server.pid)) == 1)  # the trial
        left = [one for child in children(server.pid) for one in (child, *children(child))]
        server.send_signal(end)
        said = server.stderr.read()  # until the last of them is gone
        assert server.wait(20) == (-signal.SIGKILL if end == signal.SIGKILL else 0)
    assert "worker_killed" not in said, "it left by itself"
    within(20.0, lambda: not any(map(lives, left)))


CHILDLESS = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.argv[1:] = {arguments}
from serving.__main__ import main
main()
"""


def test_a_server_whose_starter_ignores_the_end_of_children_replaces_workers_all_the_same(home):
    command = [sys.executable, "-c", CHILDLESS.format(arguments=["--home", str(home.path), "--port", "0"])]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as server:
        lines = (json.loads(line) for line in server.stderr)
        url = next(line["url"] for line in lines if line["event"] == "serving")
        (worker,) = httpx.get(f"{url}/version").json()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        assert next(line["died"] for line in lines if line["event"] == "worker_died") == worker["pid"]
        (successor,) = httpx.get(f"{url}/version", timeout=20).json()["workers"]
        assert successor["pid"] != worker["pid"]
        server.terminate()
        server.stderr.read()
        assert server.wait(20) == 0


def test_a_secret_that_is_no_key_is_one_clear_sentence(home):
    (home.path / "secret.key").write_text("no key")
    command = [sys.executable, "-m", "serving", "--home", home.path, "--port", "0", "--workers", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is no key" in done.stderr
    assert "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
