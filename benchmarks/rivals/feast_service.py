"""Feast's online store on Redis and a Booster in FastAPI: run in the environment of requirements/peers/feast.txt.

`feast_service.py --port P --given FOLDER --redis redis://HOST:PORT` writes the users' 37 features into the store. It
answers the body of a decision request: reads them from Feast, scores 30 offers and tells the best. It has no rules, no
caps and no log, and knows the offers' traits without asking. `/v1/decisions` reads as Feast's guides do, by
`get_online_features`, which blocks and so belongs in a plain function; `/v1/decisions_async` by the asyncio API, which
Feast calls alpha. One process, uvloop and httptools, no access log.
"""

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ |= {"FEAST_USAGE": "False", "FEAST_TELEMETRY": "False"}

import lightgbm
import numpy as np
import pandas
import uvicorn
from fastapi import FastAPI
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.types import Float32, String
from pydantic import BaseModel

DEVICES = ["phone", "desktop", "tablet", "tv", "speaker", "car"]
ELIGIBLE = 30


class Asked(BaseModel):
    user_id: str
    surface: str
    context: dict[str, Any] = {}


class Answer(BaseModel):
    offer: str
    p_convert: float


def stocked(given: Path, folder: Path, url: str) -> tuple[FeatureStore, list[str]]:
    """The store with its users, and the names of their features."""
    frame = pandas.DataFrame(map(json.loads, (given / "users.jsonl").read_text().splitlines()))
    names = [name for name in frame.columns if name != "user_id"]
    frame[names] = frame[names].astype("float32")
    frame["at"] = pandas.Timestamp(datetime.now(UTC))
    frame.to_parquet(folder / "users.parquet")
    at = urlsplit(url)
    store = FeatureStore(
        config=RepoConfig(
            project="segue",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store=RedisOnlineStoreConfig(connection_string=f"{at.hostname}:{at.port}", skip_dedup=True),
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "users.parquet"), timestamp_field="at")
    fields = [Field(name="user_id", dtype=String), *(Field(name=name, dtype=Float32) for name in names)]
    view = FeatureView(name="users", entities=[user], ttl=timedelta(days=365), schema=fields, source=source)
    store.apply([user, view])
    store.write_to_online_store("users", frame)
    return store, names


def application(given: Path, folder: Path, url: str) -> FastAPI:
    store, names = stocked(given, folder, url)
    asked_for = [f"users:{name}" for name in names]
    booster = lightgbm.Booster(model_file=given / "model.txt")
    offers = json.loads((given / "offers.json").read_text())
    shown = list(offers)[:ELIGIBLE]
    traits = np.array([offers[name] for name in shown])
    app = FastAPI()

    def best(asked: Asked, found: dict[str, list[Any]]) -> Answer:
        context = asked.context
        version = float(".".join(context["app_version"].split(".")[:2]))
        user = [
            *(found[name][0] for name in names),
            DEVICES.index(context["device"]),
            version,
            len(context["timezone"]),
        ]
        table = np.empty((len(shown), len(user) + traits.shape[1]))
        table[:, : len(user)] = user
        table[:, len(user) :] = traits
        p = booster.predict(table, num_threads=1)
        first = int(p.argmax())
        return Answer(offer=shown[first], p_convert=p[first])

    @app.post("/v1/decisions", response_model=Answer)
    def decide(asked: Asked) -> Answer:
        one = [{"user_id": asked.user_id}]
        return best(asked, store.get_online_features(features=asked_for, entity_rows=one).to_dict())

    @app.post("/v1/decisions_async", response_model=Answer)
    async def decide_async(asked: Asked) -> Answer:
        one = [{"user_id": asked.user_id}]
        found = await store.get_online_features_async(features=asked_for, entity_rows=one)
        return best(asked, found.to_dict())

    return app


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--given", type=Path, required=True)
    words.add_argument("--redis", required=True)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = application(asked.given, Path(folder), asked.redis)
        uvicorn.run(
            app, port=asked.port, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning"
        )


if __name__ == "__main__":
    main()
