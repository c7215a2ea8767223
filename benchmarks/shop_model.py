"""The reference model of the figures: LightGBM with 200 trees of 31 leaves over every feature of the workload."""

from collections.abc import Iterator
from itertools import islice

import lightgbm
import numpy as np

from benchmarks.workload import SHELF, SURFACE, visits
from decisioning.catalog import Catalog
from decisioning.domain import Value
from models.artifact import Means, Model, record_golden, save
from models.encoding import Encoding
from models.predictors import Trees

ROWS, TREES, LEAVES = 20_000, 200, 31
PARAMS = {
    **{"objective": "binary", "num_leaves": LEAVES, "learning_rate": 0.05, "min_data_in_leaf": 20, "verbosity": -1},
    **{"deterministic": True, "force_row_wise": True, "num_threads": 2, "feature_fraction": 0.5, "seed": 1},
}
SEED = 3


def model_files(catalog: Catalog, rows: int = ROWS) -> dict[str, bytes]:
    """The model `upsell` as the files of a release."""
    encoding = Encoding.of(catalog, [SURFACE, SHELF], list(catalog.offers))
    means = Means({}, dict.fromkeys(catalog.offers, 0.02), {}, 0.02)
    trees = Trees(fitted(encoding, rows).model_to_string(), encoding)
    model = Model("upsell", 1, "lightgbm", "convert", encoding, means, False, 0.8, trees)
    return save(record_golden(model, [(features, SURFACE) for features in islice(known(), 20)]))


def fitted(encoding: Encoding, rows: int) -> lightgbm.Booster:
    """Made-up conversions that hang on many features at once, so that the trees split on nearly all of them."""
    random = np.random.default_rng(SEED)
    contexts = np.array([encoding.context(features, SURFACE) for features in islice(known(), rows)])
    offers = encoding.offer_matrix[random.integers(0, len(encoding.offers), rows)]
    table = np.hstack([contexts, offers])
    scale = np.nanstd(table, axis=0)
    known_columns = np.nan_to_num((table - np.nanmean(table, axis=0)) / np.where(scale > 0, scale, 1.0))
    weights = random.normal(0.0, 0.35, table.shape[1])
    pairs = random.integers(0, table.shape[1], (40, 2))
    crossed = (known_columns[:, pairs[:, 0]] * known_columns[:, pairs[:, 1]]) @ random.normal(0.0, 0.2, len(pairs))
    p = 1.0 / (1.0 + np.exp(4.5 - known_columns @ weights - crossed))
    data = lightgbm.Dataset(table, (random.random(rows) < p).astype(float))
    return lightgbm.train(PARAMS, data, TREES)


def known() -> Iterator[dict[str, Value]]:
    """What is known of one user after another: stored features and the context of the request."""
    for visit in visits(10**9, 12, seed=SEED):
        yield {**visit.facts.features, **visit.request.context}
