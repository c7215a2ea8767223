"""The benchmark of serving: it runs, its figures are those that were asked for, and nothing here waits for a clock."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import serving_chart, serving_peers
from benchmarks.peers_shop import given
from benchmarks.running import load
from benchmarks.serving import SERVING
from benchmarks.serving_path import Subject, absolutes, ratios, rival, segue
from benchmarks.shop import WHOLE, prepared, stocked

ASKED_FOR = {
    *("vs_echo", "vs_hand_assembled", "vs_floor_cpu", "scorer_c_vs_booster", "scorer_numpy_vs_booster"),
    *("p99_over_p50", "workers_cpu_ratio", "offers_1000_over_50"),
    *("vs_feast", "vs_mlflow", "vs_bentoml", "vs_ray_serve", "vs_mlserver"),
}
OFFERS = 50


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("shop"), OFFERS)


@pytest.fixture(scope="module")
def stocked_shop(shop):
    with stocked(shop) as url:
        yield url


def test_every_figure_that_was_asked_for_has_a_floor_an_aim_beyond_it_and_a_part():
    assert SERVING.targets.keys() == ASKED_FOR
    peers = {peer.name for peer in serving_peers.PEERS}
    assert peers > serving_peers.TUNED
    assert {f"vs_{name}" for name in peers - serving_peers.TUNED} < ASKED_FOR
    for target in SERVING.targets.values():
        assert target.is_met(target.aim)
        assert target.aim != target.limit


def test_a_shop_is_built_once(shop, tmp_path):
    again = prepared(shop.path.parent, OFFERS)
    assert again == shop
    bodies = [json.loads(line) for line in shop.bodies.read_bytes().splitlines()]
    assert len({one["user_id"] for one in bodies}) == len(bodies) == 2_000


def test_the_server_decides_by_model_under_load_and_says_what_it_costs(shop, stocked_shop):
    with segue(shop, stocked_shop) as one:  # on a busy machine some answers are made with less, or refused
        found = load(one.port, one.bodies, [one.pid], seconds=0.3, connections=1, headers=one.headers, expect=WHOLE)
    assert found["statuses"]["200"] > found["unexpected"]
    assert found["cpu_us"] > 0


@pytest.mark.parametrize("name", ["echo", "floor", "by_hand"])
def test_what_we_compare_with_answers_the_same_requests(name, shop, stocked_shop):
    with rival(name, shop, stocked_shop) as subject:
        found = subject.asked(0.1)
    assert found["requests"] > 0


def test_answers_other_than_200_are_no_figure(shop):
    with answering(503, shop.bodies) as subject, pytest.raises(RuntimeError, match="503"):
        subject.asked(0.1)


def test_an_open_loop_counts_waiting_from_the_moment_a_request_was_due(shop):
    with answering(200, shop.bodies, delay=0.05) as subject:
        found = load(subject.port, shop.bodies, seconds=1.0, connections=1, rate=100.0)
    assert found["requests"] <= 25
    assert found["still_waiting"] >= 50
    assert found["max_ms"] > 250.0


def test_a_ratio_is_taken_within_its_round():
    def turn(speed):
        names = ("segue", "echo", "floor", "by_hand", "one_worker", "two_workers", "offers_1000")
        one = {"per_second": 100.0 * speed, "cpu_us": 10.0 / speed, "p50_ms": 1.0, "p99_ms": 3.0}
        one |= {"busy": 1.0, "client_busy": 0.1}
        return dict.fromkeys(names, one) | {"segue": {**one, "per_second": 200.0 * speed}}

    found = [turn(1.0), turn(0.1), turn(3.0)]
    assert ratios(found)["vs_echo"] == {"median": 2.0, "low": 2.0, "high": 2.0, "runs": 3}
    assert ratios(found)["p99_over_p50"]["median"] == 3.0
    assert absolutes(found)["segue"]["per_second"] == {"median": 200.0, "low": 20.0, "high": 600.0, "runs": 3}


def test_the_peers_are_given_thirty_offers_of_sixty_columns(shop):
    files = given(shop, rows=500)
    split = json.loads(files.bodies("split").read_text().splitlines()[0])["dataframe_split"]
    tensor = json.loads(files.bodies("v2").read_text().splitlines()[0])["inputs"][0]
    assert (len(split["data"]), len(split["columns"])) == tuple(tensor["shape"]) == (30, 60)
    assert len(tensor["data"]) == 1_800


def test_what_the_peers_gave_stays_in_the_file_when_the_rest_is_measured_anew(tmp_path, monkeypatch):
    for name in ("path", "scorer"):
        part = ModuleType(f"benchmarks.serving_{name}")
        part.measure = lambda quick, name=name: {
            figure: 9.0 for figure, target in SERVING.targets.items() if target.part == name
        }
        monkeypatch.setitem(sys.modules, part.__name__, part)
    monkeypatch.setattr("benchmarks.assembly.RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["serving"])
    (tmp_path / "serving.json").write_text(json.dumps({"vs_mlflow": {"median": 200.0, "low": 1, "high": 2, "runs": 3}}))
    SERVING.main("")
    kept = json.loads((tmp_path / "serving.json").read_text())
    assert kept["vs_mlflow"]["median"] == 200.0
    assert kept["vs_echo"] == 9.0


def test_the_chart_has_a_bar_for_every_server_that_was_measured(tmp_path):
    rate = {"median": 100.0, "low": 90.0, "high": 110.0, "runs": 3}
    servers = {"segue": {"per_second": rate}, "floor": {"per_second": rate}}
    found = {"servers": servers, "peers": {"mlflow": {"per_second": rate}}}
    assert serving_chart.rates(found).keys() == {"segue", "mlflow"}
    results, chart = tmp_path / "serving.json", tmp_path / "chart.svg"
    results.write_text(json.dumps(found))
    serving_chart.draw(results, chart)
    first = chart.read_bytes()
    serving_chart.draw(results, chart)
    assert first == chart.read_bytes()
    assert b"<svg" in first


# --- A server that answers as it is told ------------------------------------------------------------------------------


@contextmanager
def answering(status: int, bodies: Path, delay: float = 0.0) -> Iterator[Subject]:
    """Every answer has this status, and comes after so many seconds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(delay)
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Subject(server.server_port, os.getpid(), bodies)
        server.shutdown()
