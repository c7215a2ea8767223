"""What a worker counts, and how Prometheus is told: the client library's own parser reads every page."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from figures import Figures
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from decisioning.domain import NOTHING, Decision, Facts, Policy, Rung, Shed, Shown, Source
from serving.app import create_app
from serving.figures.exposition import FILES, MOST_SERIES, BulkHistogram, Exporter, Workers, shared_folder
from serving.figures.metrics import Count, Level, Metrics, Spread
from serving.processes.board import Board, Row

REPOSITORY = Path(__file__).parents[2]


def told(metrics: Metrics) -> Figures:
    exporter = Exporter(metrics)
    exporter.flush()
    return Figures(exporter.page())


@pytest.fixture
def decision() -> Callable[..., Decision]:
    def made(shown: str = "annual", *, degraded: tuple[str, ...] = (), drawn: bool = True, **more) -> Decision:
        slate = () if shown == "nothing" else (Shown(shown, 1, None, 0.04, 1.0, 0.9),)
        policy = Policy(("annual", "student", "trial"), "annual", "student", 1000, 500, 7) if drawn else None
        known = {"source": Source.MODEL, "model": "upsell/3", **more}
        return Decision("d", "banner", "r1", slate, degraded=degraded, eligible=(), p_convert=(), scores=(), truth="",
                        policy=policy, **known)  # fmt: skip

    return made


def test_a_decision_is_told_by_surface_source_age_model_and_what_it_lacked(decision):
    metrics = Metrics()
    metrics.decided(decision(degraded=("store:slow", "context:unknown_names:3")), 4000.0)
    metrics.decided(decision(degraded=("context:unknown_names:12",)), None)
    page = told(metrics)
    assert page("segue_decisions_total", surface="banner", source="model") == 2
    assert page("segue_decision_rungs_total", rung="model") == 2
    lacked = page.by("segue_degraded_decisions_total", "reason")
    assert lacked == {"store:slow": 1, "context:unknown_names": 2}, "numbers would make endless series"
    assert page("segue_feature_age_seconds_count") == 1
    assert page("segue_feature_age_seconds_bucket", le="3600.0") == 0
    assert page("segue_feature_age_seconds_bucket", le="21600.0") == 1
    assert page("segue_shown_p_convert_sum", model="upsell/3") == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("shown", "more", "choice"),
    [
        ("annual", {}, "champion"),
        ("student", {}, "challenger"),
        ("trial", {}, "exploration"),
        ("nothing", {}, "exploration"),
        ("annual", {"holdout": "h"}, "holdout"),
        ("annual", {"drawn": False, "model": None, "source": Source.FALLBACK}, "none"),
    ],
)
def test_every_draw_is_told_by_whose_choice_it_was(decision, shown, more, choice):
    metrics = Metrics()
    metrics.decided(decision(shown, **more), None)
    draws = told(metrics).by("segue_draws_total", "choice")
    assert {name: n for name, n in draws.items() if n} == {choice: 1}
    assert len(draws) == 5, "what was never drawn is told as 0"


FIRST = st.sampled_from([None, "annual", "student", "trial", NOTHING])
POLICIES = st.none() | st.builds(
    Policy, st.just(("annual",)), FIRST.filter(bool), FIRST, st.just(1000), st.just(500), st.just(7)
)
CHANCES = st.none() | st.floats() | st.just(1)


@st.composite
def served(draw: st.DrawFn) -> tuple[str, Decision, Facts, float, float]:
    offer, chance = draw(FIRST), draw(CHANCES)
    made = Decision(
        "d", draw(st.sampled_from(["banner", "page"])), "r1",
        () if offer is None else (Shown(offer, 1, None, chance, 1.0, 0.9),),
        draw(st.sampled_from(Source)), draw(st.sampled_from([None, "upsell/3", "churn/1"])),
        draw(st.sampled_from([(), ("store:slow",)])), (), (), (), "", draw(POLICIES),
        holdout=draw(st.sampled_from([None, "h"])),
    )  # fmt: skip
    shed = draw(st.none() | st.just(Shed(Rung.PRIOR)))
    facts = Facts(as_of=draw(st.none() | st.floats(0, 2e9) | st.just(5)), shed=shed)
    return draw(st.sampled_from(["decisions", "other"])), made, facts, draw(st.floats(0, 2e9)), draw(st.floats(0, 9))


def figures(metrics: Metrics) -> object:
    metrics.sort_out()
    spreads = [
        {labels: sorted(map(repr, found)) for labels, found in one.items()}
        for one in vars(metrics).values()
        if isinstance(one, Spread)
    ]
    return [dict(one) for one in vars(metrics).values() if isinstance(one, Count)], spreads


@given(st.lists(served(), max_size=60))
def test_what_is_noted_of_answers_is_what_is_counted_one_by_one(answers):
    noted, counted = Metrics(), Metrics()
    for route, made, facts, now, seconds in answers:
        noted.served(route, made, facts, now, seconds)
        counted.made(made, facts, now)
        counted.answered(route, 200, seconds)
    assert figures(noted) == figures(counted)
    assert figures(noted) == figures(counted), "and nothing is told twice"


def test_more_answers_and_surfaces_than_there_is_room_for_notes_are_counted_all_the_same(decision):
    noted = Metrics()
    for number in range(10_000):
        more = {"surface": f"s{number % 50}"}
        noted.served("decisions", replace(decision(), **more), Facts(as_of=1.0), 2.0, 0.001)
    page = told(noted)
    assert page("segue_requests_total", route="decisions", code=200) == 10_000
    assert {page("segue_decisions_total", surface=f"s{n}", source="model") for n in range(50)} == {200}
    assert page("segue_feature_age_seconds_sum") == 10_000


def test_an_answer_counts_in_the_bucket_of_its_time():
    metrics = Metrics()
    for seconds in (0.0149, 0.015, 0.0151, 9.0):
        metrics.answered("decisions", 200, seconds)
    metrics.answered("events", 422, 0.001)
    page = told(metrics)
    assert page("segue_requests_total", route="decisions", code=200) == 4
    assert page("segue_requests_total", route="events", code=422) == 1
    bucket = page.by("segue_request_duration_seconds_bucket", "le", route="decisions")
    assert (bucket["0.01"], bucket["0.015"], bucket["0.02"], bucket["5.0"], bucket["+Inf"]) == (0, 2, 3, 3, 4)


@given(st.lists(st.floats(0, 10), max_size=60))
def test_many_values_at_once_make_the_histogram_that_one_by_one_makes(found):
    pages = []
    for kind in (Histogram, BulkHistogram):
        registry = CollectorRegistry()
        histogram = kind("segue_trial", "", registry=registry, buckets=(0.5, 1.0, 2.0))
        if kind is BulkHistogram:
            histogram.observe_all(found)
        else:
            for value in found:
                histogram.observe(value)
        page = Figures(generate_latest(registry))
        assert page("segue_trial_sum") == pytest.approx(sum(found))
        pages.append(page.by("segue_trial_bucket", "le"))
    assert pages[0] == pages[1]


def test_every_name_is_as_prometheus_wants_it_and_every_metric_says_what_it_is():
    metrics = Metrics()
    for one in vars(metrics).values():
        if isinstance(one, Count | Spread | Level):
            assert one.name.startswith("segue_")
            assert one.help.endswith(".")
            assert not one.name.endswith("_total")
            labels = tuple("x" for _ in one.labels) if len(one.labels) != 1 else "x"
            if isinstance(one, Spread):
                one[labels].append(1.0)
            else:
                one[labels] = 1
    exporter = Exporter(metrics)
    exporter.flush()
    families = Figures(exporter.page()).families
    assert {family.name for family in families} == {
        one.name for one in vars(metrics).values() if isinstance(one, Count | Spread | Level)
    }
    assert all(family.documentation and family.samples for family in families)


def test_the_page_for_operators_has_every_metric_and_its_labels_and_no_other(runtime):
    told = {}
    for row in (REPOSITORY / "docs" / "serving.md").read_text().splitlines():
        if row.startswith("| `segue_"):
            name, labels = (re.findall("`(.*?)`", cell) for cell in row.split("|")[1:3])
            told[name[0]] = labels
    counted = [one for one in vars(runtime.metrics).values() if isinstance(one, Count | Spread | Level)]
    known = {one.name + ("_total" if isinstance(one, Count) else ""): list(one.labels) for one in counted}
    board = Board(1)
    board.post(Row(slot=1, pid=1, models={"upsell": "upsell/3"}))
    for family in Workers(board).collect():
        (sample,) = family.samples
        known[sample.name] = list(sample.labels)
    assert told == known


def test_a_label_that_never_ends_ends_as_other():
    metrics = Metrics()
    for number in range(MOST_SERIES + 20):
        metrics.limited[f"client-{number}"] += 1
    limited = told(metrics).by("segue_limited_requests_total", "client")
    assert limited["other"] == 20
    assert len(limited) == MOST_SERIES + 1


COUNTING = """
import sys
from pathlib import Path
from serving.figures.exposition import Exporter
from serving.figures.metrics import Metrics
metrics = Metrics()
exporter = Exporter(metrics, Path(sys.argv[1]), int(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    metrics.answered("decisions", 200, 0.002)
metrics.backlog[()] = int(sys.argv[3])
metrics.keys_unreadable[()] = int(sys.argv[2])
exporter.flush()
sys.stdout.buffer.write(exporter.page())
"""


def test_any_worker_tells_of_all_and_one_that_takes_a_dead_ones_place_goes_on_with_its_counters():
    def worker(folder: Path, slot: int, requests: int) -> Figures:
        words = [sys.executable, "-c", COUNTING, folder, str(slot), str(requests)]
        return Figures(subprocess.run(words, cwd=REPOSITORY, capture_output=True, check=True).stdout)

    with shared_folder() as folder:
        worker(folder, 0, 10)
        both = worker(folder, 1, 5)
        again = worker(folder, 0, 7)
    assert not folder.exists()
    assert both("segue_requests_total", route="decisions", code=200) == 15
    assert both("segue_request_duration_seconds_count", route="decisions") == 15
    assert (both("segue_store_backlog_events"), both("segue_keys_unreadable")) == (15, 1)
    assert again("segue_requests_total", route="decisions", code=200) == 22
    assert again("segue_store_backlog_events") == 12


def test_a_folder_without_room_costs_the_figures_of_the_others_and_nothing_else(capsys):
    metrics = Metrics()
    exporter = Exporter(metrics, Path("/proc"))
    metrics.answered("decisions", 200, 0.002)
    exporter.flush()
    assert Figures(exporter.page())("segue_requests_total", route="decisions", code=200) == 1
    assert "metrics_apart" in capsys.readouterr().out


def test_the_page_of_a_server_is_what_prometheus_reads(client, ask, event):
    for more in ({}, {}, {"dry_run": True}, {"slots": 99}):
        client.post("/v1/decisions", json=ask | more)
    client.post("/v1/events", json=[event, event, event | {"offer": "none of ours", "event_id": "e2"}])
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    figures = Figures(answer.content)
    assert figures("segue_requests_total", route="decisions", code=200) == 3
    assert figures("segue_requests_total", route="decisions", code=422) == 1
    assert figures("segue_decisions_total", surface="banner", source="model") == 2
    assert figures("segue_repeated_decisions_total", why="dry_run") == 1
    assert figures("segue_feature_age_seconds_sum") == 2 * 3600
    assert figures("segue_shown_p_convert_count", model="flat/1") == 2
    assert sum(figures.by("segue_draws_total", "choice").values()) == 2
    assert figures.by("segue_events_total", "outcome") == {"accepted": 1, "duplicate": 1, "rejected": 1}


def test_what_others_count_for_themselves_is_added_once(runtime):
    for reads in (1, 3, 3):
        runtime.store.outcomes["ok"] = reads
        runtime.access.limited["ios"] = 2 * reads
        runtime.pressure.too_late = reads
        runtime.metrics.sort_out()
        assert runtime.metrics.store_reads["ok"] == reads
        assert runtime.metrics.limited["ios"] == 2 * reads
        assert runtime.metrics.rungs["refused"] == reads


def test_a_scrape_keeps_no_request_waiting(client, runtime, ask):
    decided = threading.Event()
    page = runtime.exporter.page

    def slow_page() -> bytes:
        assert decided.wait(20), "while the page was made, nobody was answered"
        return page()

    runtime.exporter.page = slow_page

    async def both() -> int:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(runtime)), base_url="http://segue"
        ) as http:
            scrape = asyncio.create_task(http.get("/metrics"))
            while not scrape.done():
                answer = await http.post("/v1/decisions", json=ask)
                assert answer.status_code == 200
                decided.set()
                await asyncio.sleep(0.001)  # nothing else here gives way
            return (await scrape).status_code

    assert client.run(both()) == 200


def test_a_name_of_the_catalog_is_told_whatever_is_in_it():
    metrics = Metrics()
    name = 'a "quoted" näme\n'
    metrics.decisions[name, "model"] += 1
    assert told(metrics)("segue_decisions_total", surface=name, source="model") == 1


def test_a_count_that_nobody_can_tell_is_a_line_of_the_log_and_never_in_the_way_of_others(capsys):
    metrics = Metrics()
    exporter = Exporter(metrics)
    metrics.seconds["decisions"].append("soon")
    exporter.flush()
    assert "metrics_failed" in capsys.readouterr().out
    assert not metrics.seconds, "what can't be told is not kept for ever"
    metrics.answered("decisions", 200, 0.001)
    exporter.flush()
    assert Figures(exporter.page())("segue_requests_total", route="decisions", code=200) == 1


FILLING = """
import sys
from pathlib import Path
from serving.figures.exposition import MOST_SERIES, Exporter
from serving.figures.metrics import Count, Metrics, Spread
metrics = Metrics()
exporter = Exporter(metrics, Path(sys.argv[1]), 1)
for one in vars(metrics).values():
    for number in range(MOST_SERIES + 10 if hasattr(one, "labels") else 0):
        words = [f"{label}-{number:0>80}" for label in one.labels]
        labels = words[0] if len(words) == 1 else tuple(words)
        if isinstance(one, Spread):
            one[labels].append(0.5)
        else:
            one[labels] = 1
exporter.flush()
"""


def test_the_files_of_a_worker_never_outgrow_what_was_reserved_for_them():
    """What is written beyond that would end the worker where its disk is full."""
    with shared_folder() as folder:
        subprocess.run([sys.executable, "-c", FILLING, folder], cwd=REPOSITORY, check=True)
        sizes = {
            one.name: (one.stat().st_size, int.from_bytes(one.read_bytes()[:4], "little")) for one in folder.iterdir()
        }
    assert {name: size for name, (size, _) in sizes.items()} == {f"{kind}_1.db": size for kind, size in FILES.items()}
    assert all(used > 0 for _, used in sizes.values())


STARTING = """
import os
import sys
from pathlib import Path
from serving.figures.exposition import Exporter
from serving.figures.metrics import Metrics
folder, reserve = Path(sys.argv[1]), os.posix_fallocate
first = Exporter(Metrics(), folder, 0)
pages = []
def scraped(*which):
    pages.append(first.page())
    reserve(*which)
    pages.append(first.page())
os.posix_fallocate = scraped
Exporter(Metrics(), folder, 1)
assert len(pages) >= 8
"""


def test_a_scrape_while_a_worker_makes_its_files_finds_no_half_of_one():
    with shared_folder() as folder:
        done = subprocess.run([sys.executable, "-c", STARTING, folder], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
