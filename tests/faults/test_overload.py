"""Five times as many requests as a server can answer: it does less for each, refuses some at once, and recovers."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httpx
import phones
import pytest
from activating import activate
from figures import Figures

from decisioning.domain import Rung
from decisioning.engine import decide
from stores.log import reader as log_reader
from stores.log.decision_log import canonical, decode
from stores.releases import ReleaseStore

CLIENT = Path(__file__).parents[2] / "benchmarks" / "serving_load.py"
TIMES = 5
SECONDS = 3.0
CROWD = 400
"""Connections: so many requests at once, and more at each moment in which one of them is free."""
RECOVERED_WITHIN = 5.0
IN_TIME = 0.1
BODY = {"surface": "banner", "context": {"device": "phone", "minutes": 5.0}}


class Storm(NamedTuple):
    """What became of a server, before and during an overload."""

    calm: dict
    load: dict
    probes: list[httpx.Response]
    figures: Figures
    recovery: float
    """Seconds until it asked its models again."""


def load(server, bodies: Path, *options: object) -> dict:
    command = [sys.executable, CLIENT, "--port", server.http.base_url.port, "--bodies", bodies, *options]
    return json.loads(subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=60).stdout)


def seconds_until(holds, most: float) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < most, f"not so within {most} s"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def home(team_home):
    """Holds one release with a model."""
    activate(team_home, phones.release_files(phones.saved()))
    return team_home


@pytest.fixture(scope="module")
def storm(home, servers, tmp_path_factory) -> Storm:
    """One overload for the whole module: calm first, then five times what it could do, then calm again."""
    server = servers("")
    bodies = tmp_path_factory.mktemp("load") / "bodies.jsonl"
    bodies.write_text("\n".join(json.dumps({"user_id": f"user{n}", **BODY}) for n in range(500)))
    calm = load(server, bodies, "--seconds", 1.5, "--connections", 8)
    probes, done = [], threading.Event()

    def probe() -> None:
        """Somebody who reads what comes back."""
        with httpx.Client(base_url=server.http.base_url, timeout=30.0) as http:
            while not done.wait(0.02):
                probes.append(http.post("/v1/decisions", json={"user_id": "probe", **BODY}))
                probes.append(http.get("/healthz"))

    prober = threading.Thread(target=probe)
    prober.start()
    rate = TIMES * calm["per_second"]
    found = load(server, bodies, "--seconds", SECONDS, "--connections", CROWD, "--open-loop", rate, "--patience", 0.5)
    done.set()
    prober.join()
    recovery = seconds_until(lambda: server.decide(**BODY)["model"] == "upsell/1", RECOVERED_WITHIN)
    time.sleep(0.5)  # figures are written five times a second
    return Storm(calm, found, probes, Figures(server.http.get("/metrics").content), recovery)


def test_nothing_fails_but_what_is_refused_and_that_says_when_to_come_back(storm):
    assert set(storm.load["statuses"]) <= {"200", "503", "given up"}
    assert storm.load["statuses"]["200"] > 0
    for answer in storm.probes:
        if answer.request.url.path == "/healthz":
            assert answer.status_code == 200, "it lives, and says so"
        elif answer.status_code != 200:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"]["code"] == "overloaded"


def test_work_is_shed_and_every_rung_that_was_taken_is_counted(storm):
    rungs = storm.figures.by("segue_decision_rungs_total", "rung")
    assert sum(count for rung, count in rungs.items() if rung != "model") > 0
    assert rungs.get("refused", 0.0) == storm.figures("segue_requests_total", route="decisions", code=503)
    answered = storm.figures("segue_requests_total", route="decisions", code=200)
    assert sum(rungs.values()) - rungs.get("refused", 0.0) == answered


def test_it_answers_more_requests_than_it_could_put_all_the_work_into_and_most_of_them_in_time(storm):
    answered = storm.load["statuses"]["200"] / SECONDS
    assert answered > storm.calm["per_second"] / 3, "a busy machine may take most of the rest"
    buckets = storm.figures.by("segue_request_duration_seconds_bucket", "le", route="decisions")
    assert buckets["0.1"] > 0.8 * buckets["+Inf"]


def test_every_decision_of_the_storm_is_logged_and_comes_out_the_same_again(storm, home):
    release = ReleaseStore(home.releases).load(ReleaseStore(home.releases).current())
    taken: Counter[str] = Counter()
    for line in log_reader.read(home.logs / "decisions"):
        record = decode(line)
        assert canonical(decide(release, record.request, record.facts)) == canonical(record.decision)
        taken["model" if record.facts.shed is None else record.facts.shed.rung] += 1
    counted = storm.figures.by("segue_decision_rungs_total", "rung")
    assert {str(rung): taken[rung] for rung in Rung} == {str(rung): counted.get(rung, 0.0) for rung in Rung}
    assert taken["model"] < taken.total()
