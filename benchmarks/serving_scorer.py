"""Scoring 30 offers for one user, by C and by numpy, beside LightGBM's own predict.

    python -m benchmarks.serving_scorer [--quick]

The model is the reference one (`benchmarks.shop_model`): 200 trees of 31 leaves over 40 features of users and 20
numbers of offers. Each question is another user and another 30 of the 50 offers. LightGBM scores the matrix of the 30
rows with one thread; putting that matrix together, which it alone needs, isn't counted. Rounds interleave all sides;
times are of the CPU. All scores are compared first, and have to be equal to the last bit.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from random import Random
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `segue train` runs LightGBM; read when OpenMP loads

import lightgbm
import numpy as np

from benchmarks.shop_model import ROWS, known, model_files
from benchmarks.timing import figure, machine, say
from benchmarks.workload import SURFACE, catalog_text
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Value
from models import artifact
from models.model import Model
from models.scorer import NUMPY, WISH, C

QUESTIONS, OFFERS, RUNS, SEED = 300, 30, 11, 0


class Question(NamedTuple):
    features: Mapping[str, Value]
    names: tuple[str, ...]
    offers: list[int]
    """Of these names, in the encoding."""
    row: list[float]
    """The context."""
    matrix: np.ndarray
    """(offers, columns): what LightGBM reads."""


def measure(quick: bool = False) -> dict[str, Any]:
    """`scorer_c_vs_booster` and `scorer_numpy_vs_booster`: LightGBM's time ÷ ours, for the trees alone.

    The others are µs: of the trees, and of a whole `Model.score`, from what is known to shrunk probabilities.
    """
    say("fitting the reference model")
    files = model_files(load_catalog(catalog_text()), ROWS // 4 if quick else ROWS)
    models = {way: loaded(files, way) for way in (C, NUMPY)}
    booster = lightgbm.Booster(model_str=models[C].predictor.texts[artifact.TEXT])
    asked = questions(models[C], QUESTIONS // 10 if quick else QUESTIONS)
    sides = {
        "booster_us": partial(each, asked, lambda one: booster.predict(one.matrix, raw_score=True, num_threads=1)),
        "scorer_c_us": partial(each, asked, raw(models[C])),
        "scorer_numpy_us": partial(each, asked, raw(models[NUMPY])),
        "model_score_c_us": partial(each, asked, whole(models[C])),
        "model_score_numpy_us": partial(each, asked, whole(models[NUMPY])),
    }
    compare(sides)
    say(f"scoring {len(asked)} users × {OFFERS} offers, {RUNS} times")
    rounds = [{name: microseconds(run) / len(asked) for name, run in sides.items()} for _ in range(RUNS)]
    return {
        "scorer_c_vs_booster": figure([one["booster_us"] / one["scorer_c_us"] for one in rounds]),
        "scorer_numpy_vs_booster": figure([one["booster_us"] / one["scorer_numpy_us"] for one in rounds]),
        **{name: figure([one[name] for one in rounds]) for name in sides},
    }


def loaded(files: Mapping[str, bytes], way: str) -> Model:
    """The model, scored in one way. Raises ValueError where that is not to be had."""
    before = os.environ.get(WISH)
    os.environ[WISH] = way
    try:
        model = artifact.load(files)
    finally:
        os.environ.pop(WISH) if before is None else os.environ.update({WISH: before})
    if model.way is None or model.way.name != way:
        raise ValueError(f"the model is scored by {model.way}")
    return model


def questions(model: Model, count: int) -> list[Question]:
    random, encoding, made = Random(SEED), model.encoding, []
    for features in islice(known(), count):
        offers = sorted(random.sample(range(len(encoding.offers)), OFFERS))
        row = encoding.context(features, SURFACE)
        matrix = np.hstack([np.tile(row, (OFFERS, 1)), encoding.offer_matrix[offers]])
        made.append(Question(features, tuple(encoding.offers[o].name for o in offers), offers, row, matrix))
    return made


def raw(model: Model) -> Callable[[Question], list[float]]:
    return lambda one: model.predictor.raw(one.row, one.offers)


def whole(model: Model) -> Callable[[Question], object]:
    return lambda one: model.score(one.features, SURFACE, one.names)


def each(asked: list[Question], answer: Callable[[Question], Any]) -> list[Any]:
    return [answer(one) for one in asked]


def compare(sides: Mapping[str, Callable[[], list[Any]]]) -> None:
    wanted = [sums.tolist() for sums in sides["booster_us"]()]
    if not wanted == sides["scorer_c_us"]() == sides["scorer_numpy_us"]():
        raise ValueError("the sides differ")
    if sides["model_score_c_us"]() != sides["model_score_numpy_us"]():
        raise ValueError("C and numpy differ")


def microseconds(run: Callable[[], object]) -> float:
    """Of the CPU, for a second run in a row: what it reads has just been read, as in service."""
    run()
    started = time.process_time()
    run()
    return (time.process_time() - started) * 1e6


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="The scorer beside LightGBM's own predict.")
    words.add_argument("--quick", action="store_true", help="a smaller model and fewer questions")
    print(json.dumps({**measure(words.parse_args().quick), "machine": machine()}, indent=1))
