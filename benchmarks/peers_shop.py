"""What other people's servers are given: the reference request as plain numbers, 30 offers × 60 columns.

Forty features of the user (enums and the like as codes) and twenty of the offer; a LightGBM model of 200 trees with 31
leaves on these columns; bodies in the form of each protocol, rounded to three digits, so that nobody reads longer
numbers than there is reason for.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import lightgbm
import numpy as np

from benchmarks.shop import USERS, Shop, user_id
from benchmarks.shop_model import PARAMS, TREES
from benchmarks.timing import say
from benchmarks.workload import DEVICES, FEATURES, Visit, visits
from decisioning.catalog_yaml import load_catalog
from features.schema import Schema
from stores.releases import ReleaseStore

ELIGIBLE, REQUESTS, ROWS, SEED = 30, 200, 20_000, 9
TRAITS = tuple(f"trait_{number:02d}" for number in range(20))


@dataclass(frozen=True, slots=True)
class Given:
    """A folder of files: `model.txt`, `columns.json`, `offers.json`, `users.jsonl`, and bodies by protocol."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.txt"

    def bodies(self, protocol: str) -> Path:
        return self.path / f"{protocol}.jsonl"


def given(shop: Shop, rows: int = ROWS) -> Given:
    """The files for a shop, made where they are not there yet."""
    found = Given(shop.path / "peers")
    if not found.bodies("v2").is_file():
        say(f"  preparing {found.path}")
        found.path.mkdir(exist_ok=True)
        _make(shop, found, rows)
    return found


def _make(shop: Shop, into: Given, rows: int) -> None:
    releases = ReleaseStore(shop.home.releases)
    files = releases.files(releases.current() or "")
    catalog = load_catalog({n.removeprefix("catalog/"): t for n, t in files.items() if n.startswith("catalog/")})
    schema = Schema.of(catalog.features)
    offers = np.array([[offer.attributes[name] for name in TRAITS] for _, offer in sorted(catalog.offers.items())])
    columns = [*schema.names, "device", "app_version", "timezone", *TRAITS]
    assert len(columns) == len(FEATURES) + len(TRAITS) == 60
    _fitted(schema, offers, rows).save_model(into.model)
    _write(into.path / "columns.json", [columns])
    _write(into.path / "offers.json", [dict(zip(sorted(catalog.offers), offers.tolist(), strict=True))])
    _write(into.path / "users.jsonl", (_user(schema, number, visit) for number, visit in enumerate(visits(USERS, 50))))
    random = Random(SEED)
    tables = [
        _table(schema, visit, offers[random.sample(range(len(offers)), ELIGIBLE)]) for visit in visits(REQUESTS, 50)
    ]
    holey = [np.where(np.isnan(table), None, table.round(3)).tolist() for table in tables]
    plain = [np.nan_to_num(table, nan=0.0).round(3) for table in tables]  # for protocols without a word for "missing"
    _write(into.bodies("split"), ({"dataframe_split": {"columns": columns, "data": one}} for one in holey))
    _write(into.bodies("inputs"), ({"inputs": one.tolist()} for one in plain))
    _write(into.bodies("lists"), ({"rows": one} for one in holey))
    _write(into.bodies("arrays"), ({"rows": one.tolist()} for one in plain))
    _write(into.bodies("v2"), (_v2(one) for one in plain))


def _fitted(schema: Schema, offers: np.ndarray, rows: int) -> lightgbm.Booster:
    random = np.random.default_rng(SEED)
    users = np.array([_row(schema, visit) for visit in visits(rows, 50, seed=SEED)])
    table = np.hstack([users, offers[random.integers(0, len(offers), rows)]])
    known = np.nan_to_num((table - np.nanmean(table, axis=0)) / np.maximum(np.nanstd(table, axis=0), 1e-9))
    p = 1.0 / (1.0 + np.exp(2.5 - known @ random.normal(0.0, 0.35, table.shape[1])))
    return lightgbm.train(PARAMS, lightgbm.Dataset(table, (random.random(rows) < p).astype(float)), TREES)


def _row(schema: Schema, visit: Visit) -> list[float]:
    """The user's 40 columns: 37 that are stored, three from the context."""
    stored = np.frombuffer(schema.pack(_stored(schema, visit)), "<f4").tolist()
    context = visit.request.context
    major, minor = str(context["app_version"]).split(".")[:2]
    return [
        *stored,
        float(DEVICES.index(context["device"])),
        float(f"{major}.{minor}"),
        float(len(context["timezone"])),
    ]


def _stored(schema: Schema, visit: Visit) -> dict[str, Any]:
    return {name: value for name, value in visit.facts.features.items() if name in schema.by_name}


def _user(schema: Schema, number: int, visit: Visit) -> dict[str, Any]:
    numbers = np.frombuffer(schema.pack(_stored(schema, visit)), "<f4").tolist()
    known = zip(schema.names, numbers, strict=True)
    return {"user_id": user_id(number), **{name: None if value != value else value for name, value in known}}


def _table(schema: Schema, visit: Visit, offers: np.ndarray) -> np.ndarray:
    return np.hstack([np.tile(_row(schema, visit), (len(offers), 1)), offers])


def _v2(table: np.ndarray) -> dict[str, Any]:
    data = table.ravel().tolist()
    return {"inputs": [{"name": "rows", "shape": list(table.shape), "datatype": "FP64", "data": data}]}


def _write(file: Path, lines: Iterable[Any]) -> None:
    file.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines))
