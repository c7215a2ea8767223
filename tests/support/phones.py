"""A small catalog with a model of trees that is fitted here: phones convert by the annual plan, other devices don't."""

from functools import cache

import numpy as np

from decisioning.catalog_yaml import load_catalog
from models import artifact
from models.artifact import Means, Model, record_golden
from models.encoding import Encoding
from models.learners import Sample, fit

CATALOG = b"""
features:
  device: {type: enum, values: [phone, tv], from: context}
  minutes: {type: float, from: context}
surfaces:
  banner: {slots: 1, fallback: generic}
exploration: {uniform: 0.0}
offers:
  generic: {owner: growth, group: fallback, surfaces: [banner], score: {value: 0.001}}
  annual: {owner: growth, group: upgrade, surfaces: [banner], score: {model: upsell, value: 40.0}}
"""
ROWS = 400


@cache
def fitted() -> Model:
    """`upsell/1`, with golden rows."""
    encoding = Encoding.of(load_catalog({"all.yaml": CATALOG}), ["banner"], ["annual"])
    draw = np.random.default_rng(3)
    known = [{"device": ("phone", "tv")[n % 2], "minutes": float(draw.exponential(30))} for n in range(ROWS)]
    contexts = np.array([encoding.context(one, "banner") for one in known])
    likes = [0.8 if one["device"] == "phone" else 0.2 * (one["minutes"] > 30) for one in known]
    outcome = (draw.random(ROWS) < likes).astype(int)
    sample = Sample(contexts.astype(np.float32), np.zeros(ROWS, int), outcome, np.ones(ROWS))
    trees = fit("lightgbm", encoding, sample, {"num_trees": 5, "min_data_in_leaf": 20, "num_threads": 1}, 1)
    model = Model("upsell", 1, "lightgbm", "convert", encoding, Means({}, {}, {}, 0.5), False, 1.0, trees)
    return record_golden(model, [(one, "banner") for one in known[:6]])


def release_files(model: dict[str, bytes], catalog: bytes = CATALOG) -> dict[str, bytes]:
    """The files of a release with these of a model."""
    return {"catalog/all.yaml": catalog} | {f"models/upsell/{name}": content for name, content in model.items()}


def saved(model: Model | None = None) -> dict[str, bytes]:
    return artifact.save(model or fitted())
