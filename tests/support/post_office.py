"""A home from which pushes and mails go out: a release with a model, a snapshot of users, a list of them on file."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd

from decisioning.catalog_yaml import load_catalog
from decisioning.engine import Release
from features.schema import Schema
from features.snapshots import Snapshot, build_snapshot
from models import artifact
from models.artifact import Means, Model
from models.encoding import Encoding
from models.learners import Sample, fit
from stores.home import Home
from stores.releases import ReleaseStore
from workbench import release_of

NOW = 1_800_000_000.0  # 2027-01-15T08:00Z
HOUR, DAY = 3600.0, 86_400.0
CATALOG = """
features:
  age: {type: int, default: 30}
  consent: {type: bool, if_missing: block}
  likes: {type: set, values: [jazz, metal, pop]}
  minutes: {type: float, default: 0, max_age: 4h}
  sessions: {type: int, max_age: 36h}
  tier: {type: enum, values: [free, basic, premium]}
  device: {type: enum, values: [phone, tv], from: context}
  timezone: {type: text, from: context}
surfaces:
  push: {slots: 1, fallback: null, allow_nothing: true, sticky: 1d, min_score: 0.05}
  mail: {slots: 2, fallback: digest, max_per_group: 1}
  banner: {slots: 1, fallback: digest}
groups:
  plans: {within: 3d}
  merch: {within: 3d}
  house: {converts_on: click, within: 1d}
offers:
  annual: {owner: pm, group: plans, surfaces: [push, mail], score: {model: upsell, value: 40},
           attributes: {price: 99}, eligible: {tier: [free, basic]}}
  monthly: {owner: pm, group: plans, surfaces: [push, mail, banner], score: {model: upsell, value: 10},
            attributes: {price: 10}}
  vinyl: {owner: pm, group: merch, surfaces: [push, mail], score: {model: upsell, value: 15, cost: 2},
          eligible: {likes: {has_any: [jazz, pop]}}}
  poster: {owner: pm, group: merch, surfaces: [push, mail], score: {value: 3, prior: 0.04}}
  digest: {owner: pm, group: house, surfaces: [banner], score: {value: 0.1, prior: 0.01}}
guards:
  needs_consent: {require: {consent: true}, only: {surface: push}}
  no_tv: {block_if: {device: tv}, only: {offer: poster}}
suppress:
  after_dismiss: {after: dismiss, same: offer, for: 14d, except: {offer: digest}}
caps:
  sent: {max: 1, per: 2d, by: surface, counts: decision, only: {surface: push}}
  seen: {max: 2, per: 7d, by: offer, except: {offer: digest}}
budgets:
  vinyls: {offers: [vinyl], impressions: 25, hard: true}
  posters: {offers: [poster], impressions: 40, hard: false}
levers:
  jazz_week: {only: {offer: vinyl}, times: 1.5, until: 2030-01-01, owner: pm, why: a week of jazz}
lever_bounds: {min: 0.25, max: 4.0}
holdouts:
  control: {percent: 5, salt: k, show: best_single_offer}
experiments:
  price: {layer: pricing, arms: {control: {percent: 50}, changed: {percent: 50, set: {offers.annual.score.value: 30}}}}
exploration: {uniform: 0.05, challenger: 0}
"""


@dataclass(frozen=True)
class PostOffice:
    home: Home
    release: Release
    snapshot: Snapshot
    ids: tuple[str, ...]

    @property
    def load(self):
        return partial(release_of, self.home, self.release.id)

    def list_of(self, path: Path, ids: Iterable[str] | None = None, **columns: Iterable[object]) -> Path:
        """A CSV of users, by default all of them."""
        rows = zip(self.ids if ids is None else ids, *columns.values(), strict=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", *columns])
            writer.writerows(rows)
        return path


def post_office(
    path: Path, users: int = 300, *, text: str = CATALOG, seed: int = 0, learner: str = "lightgbm"
) -> PostOffice:
    """Everybody is in the snapshot, which is six hours old."""
    home, catalog = Home(path), load_catalog({"all.yaml": text.encode()})
    ids = tuple(f"user-{number}" for number in range(users))
    _write_data(home.data, ids, Schema.of(catalog.features), Random(seed))
    snapshot = build_snapshot(home.data, home.snapshots, schema=Schema.of(catalog.features))
    releases = ReleaseStore(home.releases)
    files = {f"models/upsell/{name}": content for name, content in artifact.save(model_of(catalog, learner)).items()}
    release = releases.publish({"catalog/all.yaml": text.encode(), **files}, who="test", why="a start", now=NOW)
    releases.activate(release, expected=None, who="test", why="a start", now=NOW)
    return PostOffice(home, releases.load(release), snapshot, ids)


def model_of(catalog, learner: str = "lightgbm", version: int = 3) -> Model:
    """A small model that has seen chance decisions."""
    names = [*catalog.offers, "nothing"]
    encoding = Encoding.of(catalog, tuple(catalog.surfaces), names)
    random, n = Random(version), 2000
    seen = [_facts(random) for _ in range(n)]
    surfaces = [random.choice(encoding.surfaces) for _ in seen]
    contexts = [encoding.context(_values(row), where) for row, where in zip(seen, surfaces, strict=True)]
    offers = np.array([random.randrange(len(encoding.offers)) for _ in seen])
    likely = [
        0.1 + row.get("age", 30) / 200 + 0.3 * ("jazz" in row.get("likes", ())) * (o > 3)
        for row, o in zip(seen, offers, strict=True)
    ]
    outcome = np.array([float(random.random() < p) for p in likely])
    sample = Sample(np.array(contexts, np.float32), offers, outcome, np.ones(n), np.full(n, 0.25))
    trees = {"num_trees": 30, "min_data_in_leaf": 20, "num_threads": 1}
    means = Means({}, {"annual": 0.1, "monthly": 0.15, "vinyl": 0.08, "nothing": 0.01}, {}, 0.1)
    predictor = fit(learner, encoding, sample, trees if learner != "logistic" else {}, 0)
    return Model("upsell", version, learner, "convert", encoding, means, True, 0.8, predictor)


def _values(row: dict) -> dict:
    return {name: frozenset(value) if name == "likes" else value for name, value in row.items()}


def _write_data(folder: Path, ids: tuple[str, ...], schema: Schema, random: Random) -> None:
    moment = pd.Timestamp(NOW - 6 * HOUR, unit="s", tz="UTC")
    rows = [_facts(random) for _ in ids]
    decisions = [f"d{number}" for number in range(len(ids))]
    dtypes = {"age": "Int64", "consent": "boolean", "minutes": "float64", "sessions": "Int64", "tier": "string"}
    facts = {name: pd.array([row.get(name) for row in rows], dtype=dtypes.get(name, "object")) for name in schema.names}
    folder.mkdir(parents=True)
    pd.DataFrame({"decision_id": decisions, **facts}).to_parquet(folder / "facts.parquet")
    asked = {"decision_id": decisions, "user_id": list(ids), "at": moment}
    pd.DataFrame(asked).to_parquet(folder / "decisions.parquet")
    (folder / "dataset.json").write_text(json.dumps({"features": schema.to_json()}))


def _facts(random: Random) -> dict:
    found = {
        "age": random.randint(12, 80),
        "consent": random.random() < 0.8,
        "likes": [name for name in ("jazz", "metal", "pop") if random.random() < 0.4],
        "minutes": random.expovariate(1 / 200),
        "sessions": random.randint(0, 30),
        "tier": random.choice(["free", "free", "basic", "premium"]),
    }
    if random.random() < 0.2:
        del found[random.choice(["age", "consent", "minutes", "sessions", "tier", "likes"])]
    return found
