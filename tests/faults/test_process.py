"""The server's own process: bad releases, a disk that refuses, SIGTERM, kill -9, clients that cheat."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stores.log import reader as log_reader
from stores.log.decision_log import decode
from stores.releases import ReleaseStore


def changed(home, catalog: bytes) -> str:
    """Publishes another catalog and points to it."""
    store = ReleaseStore(home.releases)
    release = store.publish({"catalog/all.yaml": catalog}, who="test", why="test", now=1.0)
    store.activate(release, expected=store.current(), who="test", why="test", now=1.0)
    return release


@pytest.fixture
def catalog(home) -> bytes:
    store = ReleaseStore(home.releases)
    return store.files(store.current())["catalog/all.yaml"]


def test_a_new_release_is_served_without_a_restart_and_a_bad_one_changes_nothing(serve, home, catalog, within):
    server = serve("")
    good = changed(home, catalog.replace(b"poster", b"placard"))
    within(3.0, lambda: server.http.get("/version").json()["release"] == good)
    assert server.decide("strip")["offers"][0]["offer"] == "placard"
    changed(home, b"offers: {broken: }")
    within(3.0, lambda: "release_refused" in server.events())
    assert server.decide("strip")["release"] == good
    assert server.http.get("/readyz").status_code == 200


def test_without_any_release_the_rules_of_a_catalog_folder_decide(serve, home, catalog, tmp_path):
    shutil.rmtree(home.releases)
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "all.yaml").write_bytes(catalog)
    server = serve("", "--catalog", str(folder))
    answer = server.decide("strip")
    assert (answer["source"], answer["model"]) == ("rules", "none")
    assert answer["release"].startswith("catalog-")


def test_with_neither_release_nor_catalog_it_lives_but_is_not_ready(serve, home):
    shutil.rmtree(home.releases)
    server = serve("")
    assert server.http.get("/healthz").status_code == 200
    assert server.http.get("/readyz").status_code == 503
    assert server.http.post("/v1/decisions", json={"user_id": "u", "surface": "strip"}).status_code == 404


def test_a_log_that_cannot_be_written_stops_no_decision_and_is_told(serve, home, tmp_path, within):
    (tmp_path / "file").touch()
    server = serve("", "--logs", str(tmp_path / "file" / "logs"))
    assert server.decide("strip")["offers"]
    assert server.report("e1")["degraded"] == ["log:failed"]
    within(3.0, lambda: "log_dropping" in server.events())


def test_at_sigterm_it_first_says_so_then_ends_well_with_its_logs_sealed(serve, home):
    server = serve("", "--drain", "1")
    decided = server.decide("strip")["decision_id"]
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.http.get("/readyz").json()["error"]["code"] == "draining"
    late = server.decide("strip")["decision_id"]
    assert server.process.wait(10) == 0
    assert not list((home.logs / "decisions").glob("*.open.jsonl"))
    assert [decode(line).decision.decision_id for line in log_reader.read(home.logs / "decisions")] == [decided, late]


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(serve):
    server = serve("")
    address = (server.http.base_url.host, server.http.base_url.port)
    for _ in range(5):
        with socket.create_connection(address) as client:
            client.sendall(b'POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"user_id": ')
    assert server.decide("strip")["offers"]
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)
    assert not {"request_failed", "decide_failed"} & set(server.events())


def test_an_address_that_is_taken_is_one_clear_sentence(serve, home):
    server = serve("")
    command = [sys.executable, "-m", "serving", "--home", home.path, "--port", str(server.http.base_url.port)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=15)
    assert done.returncode == 2
    assert "(Address already in use): choose another --host or --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_line_of_the_servers_own_log_holds_a_users_id_or_a_body(serve, valkey):
    server = serve(valkey.url)
    valkey.kill()
    server.decide(user_id="zqxj-user", context={"zqxj": "zqxj"})
    server.report("zqxj-event", user_id="zqxj-user")
    server.http.post("/v1/decisions", content=b"zqxj")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert "store_down" in server.events()
    assert "zqxj" not in str(server.lines)
