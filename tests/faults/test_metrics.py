"""GET /metrics of a real server with two workers: one page for both, through the death of one."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from figures import Figures

FLUSHED_WITHIN = 5.0


def on_its_own(server, method: str, path: str, **more) -> httpx.Response:
    """On a connection of its own, so that any worker may get it."""
    return httpx.request(method, str(server.http.base_url) + path, verify=False, **more)


def ask(server, **more) -> int:
    """Until it is not refused for the load of this machine."""
    while True:
        answer = on_its_own(server, "POST", "/v1/decisions", json={"user_id": "ann", "surface": "strip", **more})
        if answer.status_code != 503:
            return answer.status_code


def page(server) -> Figures:
    answer = on_its_own(server, "GET", "/metrics")
    assert answer.status_code == 200, answer.text
    return Figures(answer.content)


@pytest.fixture
def server(serve) -> Iterator:
    started = serve("", "--workers", "2")
    worker = on_its_own(started, "GET", "/version").json()["workers"][0]["pid"]
    folder = Path(re.findall(r"/\S*segue-metrics-\w+", Path(f"/proc/{worker}/maps").read_text())[0])
    assert folder.is_dir()
    yield started
    started.process.terminate()
    started.process.wait(15)
    assert not folder.exists(), "the figures' folder goes with the server"


def test_all_workers_are_told_on_one_page_whichever_is_asked_and_a_death_takes_nothing_away(server, within):
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda n: ask(server, **({"slots": 9} if n % 4 == 0 else {})), range(80)))
    assert (codes.count(200), codes.count(422)) == (60, 20)

    def told() -> tuple[float, float, float]:
        figures = page(server)
        return (
            figures("segue_requests_total", route="decisions", code=200),
            figures("segue_requests_total", route="decisions", code=422),
            sum(figures.by("segue_decisions_total", "source", surface="strip").values()),
        )

    within(FLUSHED_WITHIN, lambda: told() == (60, 20, 60))
    for _ in range(6):  # whichever worker answers
        assert told() == (60, 20, 60)
    figures = page(server)
    assert figures("segue_request_duration_seconds_count", route="decisions") >= 80
    assert sum(figures.by("segue_draws_total", "choice").values()) == 60
    rungs = figures.by("segue_decision_rungs_total", "rung")
    assert sum(rungs.values()) - rungs["refused"] == 60, "whatever the load left of them"
    assert figures("segue_store_breakers", state="closed") == 2
    release = server.lines[-1].get("release") or next(one["release"] for one in server.lines if "release" in one)
    workers = [one.labels for family in figures.families for one in family.samples if one.name == "segue_worker_info"]
    assert {one["release"] for one in workers} == {release}
    assert {one["state"] for one in workers} == {"serving"}
    assert len({one["worker"] for one in workers}) == 2

    about = on_its_own(server, "GET", "/version").json()
    os.kill(about["workers"][0]["pid"], signal.SIGKILL)

    def has_recovered() -> bool:
        try:
            figures = page(server)
        except httpx.HTTPError:  # it had this connection
            return False
        return figures("segue_worker_restarts_total") == 1 and figures("segue_store_breakers", state="closed") == 2

    within(15, has_recovered)
    assert told() == (60, 20, 60), "counters never go back"
    before = told()[0]
    assert ask(server) == 200
    within(FLUSHED_WITHIN, lambda: told()[0] == before + 1)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say_of_the_page(server):
    ask(server)
    text = on_its_own(server, "GET", "/metrics").content
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
