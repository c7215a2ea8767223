"""Batch scoring beside LightGBM's own predict, and how many users a second `segue score` and `segue decide-all` take.

    python -m benchmarks.pipeline_score [--quick]

The model: 200 trees of 31 leaves over 40 user and 20 offer features; 30 offers. Both sides score the same users and
offers with two cores, interleaved: ours in two processes that each hold half of the users, LightGBM's `Booster.predict`
with two threads over the matrix of all pairs. Putting that matrix together, which LightGBM alone needs, is counted on
neither side. The raw scores are compared first, and have to be equal to the last bit.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `segue train` runs LightGBM; read when OpenMP loads

import numpy as np
import pandas as pd

from benchmarks.timing import figure, say
from benchmarks.workload import NOW, SURFACE, catalog_text, visits
from decisioning.catalog_yaml import load_catalog
from features.frames import DTYPES
from features.schema import Schema
from features.snapshots import Snapshot, build_snapshot
from models import artifact
from models.artifact import Means, Model
from models.encoding import Encoding
from models.learners import Sample, fit
from models.scorer import TreeScorer
from models.trees import parse
from stores.home import Home
from stores.releases import ReleaseStore

USERS, USER_FEATURES, OFFERS, OFFER_FEATURES, TREES, LEAVES, SEED = 40_000, 40, 30, 20, 200, 31, 0
RUNS, PROCESSES = 7, 2
VERB_USERS = 200_000


def measure(quick: bool = False) -> dict[str, Any]:
    """`batch_score_vs_booster`: our throughput ÷ LightGBM's. `score_users_per_s` and `decide_all_users_per_s`: of the
    whole verbs with two processes, from reading to writing."""
    return {**against_booster(4_000 if quick else USERS), **verbs(10_000 if quick else VERB_USERS)}


# --- Beside LightGBM --------------------------------------------------------------------------------------------------


def against_booster(users: int) -> dict[str, Any]:
    """The ratio, and µs per user of both sides."""
    say(f"fitting {TREES} trees of {LEAVES} leaves")
    text, offers = fitted()
    contexts = some_users(users, np.random.default_rng(SEED + 1))
    matrix = np.hstack([np.repeat(contexts, OFFERS, axis=0), np.tile(offers, (users, 1))])
    booster = booster_of(text)
    with scoring_processes(text, offers, contexts) as ours:
        theirs = partial(booster.predict, matrix, raw_score=True, num_threads=2)
        if not np.array_equal(np.concatenate(ours(True)).ravel(), theirs()):
            raise ValueError("the two sides differ")
        say(f"scoring {users:,} users × {OFFERS} offers, {RUNS} times")
        rounds = [(seconds(lambda: ours(False)), seconds(theirs)) for _ in range(RUNS)]
    return {
        "batch_score_vs_booster": figure([theirs / own for own, theirs in rounds]),
        "score_us_per_user": figure([own / users * 1e6 for own, _ in rounds]),
        "booster_us_per_user": figure([theirs / users * 1e6 for _, theirs in rounds]),
    }


def fitted() -> tuple[str, np.ndarray]:
    """A model in LightGBM's native text, and the offers' features."""
    import lightgbm

    rng = np.random.default_rng(SEED)
    contexts, offers = some_users(60_000, rng), rng.random((OFFERS, OFFER_FEATURES)).astype(np.float32)
    shown = rng.integers(0, OFFERS, len(contexts))
    known = np.nan_to_num(contexts)
    lean = known[:, 10] * offers[shown, 0] + known[:, 11] * offers[shown, 1] + 0.5 * known[:, 0]
    bought = rng.random(len(contexts)) < 1 / (1 + np.exp(1 - lean - 0.4 * known[:, 12] * known[:, 13]))
    settings = {"objective": "binary", "num_leaves": LEAVES, "verbosity": -1, "num_threads": 2, "seed": SEED}
    data = lightgbm.Dataset(np.hstack([contexts, offers[shown]]), bought.astype(float))
    return lightgbm.train(settings, data, TREES).model_to_string(), offers


def booster_of(text: str) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=text)


def some_users(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, USER_FEATURES) float32: 10 flags, 30 numbers, 3 % missing."""
    found = rng.normal(size=(n, USER_FEATURES)).astype(np.float32)
    found[:, :10] = found[:, :10] > 0
    found[rng.random(found.shape) < 0.03] = np.nan
    return found


@contextmanager
def scoring_processes(
    text: str, offers: np.ndarray, contexts: np.ndarray
) -> Iterator[Callable[[bool], list[np.ndarray | None]]]:
    """Two processes that hold half of the users each. Called, both score theirs, and return the scores if wanted."""
    context, pipes, workers = get_context("spawn"), [], []
    for half in np.array_split(contexts, PROCESSES):
        here, there = context.Pipe()
        workers.append(context.Process(target=score_on_demand, args=(there, text, offers, half)))
        workers[-1].start()
        pipes.append(here)

    def score(wanted: bool) -> list[np.ndarray | None]:
        for pipe in pipes:
            pipe.send(wanted)
        return [pipe.recv() for pipe in pipes]

    score(False)  # the processes are up
    try:
        yield score
    finally:
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.send(None)
            worker.join()


def score_on_demand(pipe: Connection, text: str, offers: np.ndarray, contexts: np.ndarray) -> None:
    scorer, every = TreeScorer(parse(text), USER_FEATURES, offers.astype(float)), np.arange(len(offers))
    while (wanted := pipe.recv()) is not None:
        scores = scorer.matrix(contexts, every)
        pipe.send(scores if wanted else None)


# --- The verbs --------------------------------------------------------------------------------------------------------


def verbs(users: int, timed: Callable[[Callable[[], object]], float] | None = None) -> dict[str, Any]:
    """Users a second of `segue score` and `segue decide-all` on the reference workload of 50 offers.

    By the clock on the wall, or as `timed` tells the seconds of a run.
    """
    clock = timed or seconds
    from evaluation.batch.jobs import Question, decide_all, score_all
    from scaling.local import Local
    from stores.embedded import running
    from stores.online.redis_store import RedisStore

    with tempfile.TemporaryDirectory() as folder:
        say(f"making a snapshot of {users:,} users, and a release")
        home = Home(Path(folder) / "home")
        release, snapshot = released(home), made_snapshot(home, users)
        asked = partial(Question, partial(ReleaseStore(home.releases).load, release), SURFACE, snapshot, None, at=NOW)
        say("segue score")
        scored = clock(lambda: score_all(asked(Path(folder) / "scores"), Local(PROCESSES)))
        say("segue decide-all")
        with running(home.valkey) as url:
            store = partial(RedisStore, url, timeout=30.0)
            options = {"store": store, "secret": home.secret(), "log": home.logs / "decisions", "lease": 3600.0}
            decided = clock(lambda: decide_all(asked(Path(folder) / "decisions"), Local(PROCESSES), **options))
    return {"score_users_per_s": round(users / scored), "decide_all_users_per_s": round(users / decided)}


def released(home: Home) -> str:
    """The reference catalog with a model of 200 trees of 31 leaves, in use."""
    files = catalog_text()
    catalog, random = load_catalog(files), Random(SEED)
    encoding = Encoding.of(catalog, (SURFACE,), tuple(catalog.offers))
    visited = [one.facts.features | one.request.context for one in visits(20_000, len(catalog.offers))]
    contexts = np.array([encoding.context(values, SURFACE) for values in visited], np.float32)
    shown = np.array([random.randrange(len(encoding.offers)) for _ in visited])
    bought = np.array([float(random.random() < 0.05 + 0.1 * values["signal_00"]) for values in visited])
    sample = Sample(contexts, shown, bought, np.ones(len(shown)), np.full(len(shown), 0.02))
    params = {"num_trees": TREES, "num_leaves": LEAVES, "min_data_in_leaf": 20, "num_threads": 2}
    predictor = fit("lightgbm", encoding, sample, params, SEED)
    means = Means({}, {}, {}, 0.1)
    model = Model("upsell", 1, "lightgbm", "convert", encoding, means, False, 0.8, predictor)
    content = {f"catalog/{name}": text for name, text in files.items()}
    content |= {f"models/upsell/{name}": text for name, text in artifact.save(model).items()}
    releases = ReleaseStore(home.releases)
    return releases.publish(content, who="benchmark", why="a benchmark", now=NOW)


def made_snapshot(home: Home, users: int) -> Snapshot:
    """The reference workload's users, six hours old."""
    schema = Schema.of(load_catalog(catalog_text()).features)
    rows = [one.facts.features for one in visits(users, 50)]
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in schema.names}
    columns["owned_addons"] = [sorted(row["owned_addons"]) for row in rows]
    ids, moment = [f"d{n}" for n in range(users)], pd.Timestamp(NOW - 6 * 3600, unit="s", tz="UTC")
    home.data.mkdir(parents=True)
    frame = pd.DataFrame({"decision_id": ids, **{name: typed(schema, name, cells) for name, cells in columns.items()}})
    frame.to_parquet(home.data / "facts.parquet")
    asked = {"decision_id": ids, "user_id": [f"user-{n}" for n in range(users)], "at": moment}
    pd.DataFrame(asked).to_parquet(home.data / "decisions.parquet")
    (home.data / "dataset.json").write_text(json.dumps({"features": schema.to_json()}))
    return build_snapshot(home.data, home.snapshots, schema=schema)


def typed(schema: Schema, name: str, cells: list[Any]) -> pd.Series:
    spec = next(spec for spec in schema.specs if spec.name == name)
    return pd.Series(cells, dtype=DTYPES[spec.type])


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="Batch scoring beside LightGBM's own predict.")
    words.add_argument("--quick", action="store_true", help="a tenth of the users")
    print(json.dumps(measure(words.parse_args().quick), indent=1))
