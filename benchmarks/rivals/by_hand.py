"""The same service as a good engineer assembles it in a day: FastAPI, pydantic, redis-py, LightGBM, a loop over rules.

`by_hand.py --port P --shop FOLDER --redis redis://HOST:PORT` reads the same catalog, model and users. For a request: a
pydantic model in; one pipeline for features, history, switched-off offers and budgets; a loop over the offers and their
clauses, guards, suppressions and caps; one `Booster.predict` over the rows that are left, in an array of which the
offers' part was made before; the best by value, or at times another to learn from; a line of JSON to a buffered log;
a `response_model` out. What it leaves out of Segue's: authentication, experiments, levers, exclusivity, metrics,
reasons, deadlines, anything about faults. LightGBM has one thread, as there is one core.
"""

import argparse
import json
import math
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import uvicorn
import yaml
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis

from benchmarks.shop import USERS, user_id
from benchmarks.workload import visits
from stores.home import Home
from stores.releases import ReleaseStore

EXPLORE = 0.05


class Asked(BaseModel):
    user_id: str
    surface: str
    context: dict[str, Any] = {}


class Shown(BaseModel):
    offer: str
    slot: int
    creative: str | None
    p_convert: float
    score: float
    probability: float


class Answer(BaseModel):
    decision_id: str
    surface: str
    offers: list[Shown]
    source: str
    degraded: list[str]
    release: str
    model: str
    expires_at: float


# --- Rules ------------------------------------------------------------------------------------------------------------


def holds(test: Any, value: Any) -> bool:
    """One clause. What is missing meets none."""
    if value is None:
        return False
    if isinstance(test, list):
        return value in test
    if not isinstance(test, dict):
        return value == test
    for word, wanted in test.items():
        match word:
            case "not":
                if value in wanted if isinstance(wanted, list) else value == wanted:
                    return False
            case "min":
                if value < wanted:
                    return False
            case "max":
                if value > wanted:
                    return False
            case "lacks":
                if wanted in value:
                    return False
            case "version_min":
                if tuple(map(int, value.split("."))) < tuple(map(int, wanted.split("."))):
                    return False
    return True


def eligible(clauses: dict[str, Any], known: dict[str, Any], audiences: dict[str, Any]) -> bool:
    for name, test in clauses.items():
        if name == "audience":
            if not eligible(audiences[test], known, audiences):
                return False
        elif name == "any":
            if not any(eligible(one, known, audiences) for one in test):
                return False
        elif not holds(test, known.get(name)):
            return False
    return True


class Shop:
    """The release, looked up once."""

    def __init__(self, home: Home) -> None:
        releases = ReleaseStore(home.releases)
        self.release = releases.current() or ""
        files = releases.files(self.release)
        read = {name: yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")}
        self.offers: dict[str, Any] = {}
        for name, content in sorted(read.items()):
            if name.startswith("catalog/offers/"):
                self.offers |= content["offers"]
        self.offers = dict(sorted(self.offers.items()))
        self.audiences = read["catalog/audiences.yaml"]["audiences"]
        self.defaults = {
            name: one["default"] for name, one in read["catalog/features.yaml"]["features"].items() if "default" in one
        }
        rules = read["catalog/rules.yaml"]
        self.guards, self.caps, self.budgets = rules["guards"], rules["caps"], rules["budgets"]
        self.budget_of = {offer: name for name, one in self.budgets.items() for offer in one["offers"]}
        self.booster = lightgbm.Booster(model_str=files["models/upsell/model.txt"].decode())
        columns = json.loads(files["models/upsell/model.json"])["columns"]
        self.context = [name for name in columns if not name.startswith(("offer=", "group=", "attribute."))]
        self.cells = [cell(name) for name in self.context]
        rest = columns[len(self.context) :]
        self.rows = np.array([[trait(name, offer, column) for column in rest] for name, offer in self.offers.items()])
        self.index = {name: row for row, name in enumerate(self.offers)}

    def allowed(self, surface: str, known: dict[str, Any], past: list[list], spent: dict[str, int], off: set) -> list:
        """The offers that this user may see here now."""
        now = time.time()
        seen: dict[str, list] = {}
        groups: dict[str, int] = {}
        here = 0
        converted = set()
        for kind, offer, where, at in past:
            seen.setdefault(offer, []).append((kind, at))
            if kind == "impression" and now - at < 7 * 86_400:
                group = self.offers[offer]["group"]
                groups[group] = groups.get(group, 0) + 1
            here += kind == "impression" and where == surface and now - at < 86_400
            if kind == "convert" and now - at < 30 * 86_400:
                converted.add(self.offers[offer]["group"])
        if here >= 12:
            return []
        found = []
        for name, offer in self.offers.items():
            group = offer["group"]
            if surface not in offer["surfaces"] or name in off:
                continue
            if known.get("payment_failed") is not False and group in ("plan_upgrade", "plan_switch"):
                continue
            if known.get("device") == "car" and group == "tickets":
                continue
            if not eligible(offer["eligible"], known, self.audiences):
                continue
            if group in converted and group != "merch":
                continue
            if groups.get(group, 0) >= 8:
                continue
            mine = seen.get(name)
            if mine:
                if any(kind == "dismiss" and now - at < 14 * 86_400 for kind, at in mine):
                    continue
                if sum(kind == "impression" and now - at < 7 * 86_400 for kind, at in mine) >= 3:
                    continue
            budget = self.budget_of.get(name)
            if budget and spent[budget] >= self.budgets[budget]["impressions"]:
                continue
            found.append(name)
        return found

    def scores(self, names: list[str], surface: str, known: dict[str, Any]) -> np.ndarray:
        width = len(self.context)
        table = np.empty((len(names), width + self.rows.shape[1]))
        table[:, :width] = [one({**known, "surface": surface}) for one in self.cells]
        table[:, width:] = self.rows[[self.index[name] for name in names]]
        return self.booster.predict(table, num_threads=1)


def cell(column: str) -> Callable[[dict[str, Any]], float]:
    """How one column of the model comes from what is known."""
    if " has " in column:
        name, member = column.split(" has ")
        return lambda known: float(member in known[name]) if name in known else math.nan
    if "=" in column:
        name, value = column.split("=")
        return lambda known: float(known[name] == value) if name in known else math.nan
    return lambda known: known.get(column, math.nan)


def trait(name: str, offer: dict[str, Any], column: str) -> float:
    kind, _, value = column.partition("=")
    if kind == "offer":
        return float(name == value)
    if kind == "group":
        return float(offer["group"] == value)
    return offer["attributes"].get(kind.removeprefix("attribute."), math.nan)


# --- The service ------------------------------------------------------------------------------------------------------


def application(home: Home, url: str) -> FastAPI:
    shop = Shop(home)
    redis = Redis.from_url(url, decode_responses=True, protocol=2)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await stock(redis, len(shop.offers))
        with tempfile.TemporaryFile("w", buffering=1 << 16) as app.state.log:
            yield
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/decisions", response_model=Answer)
    async def decide(asked: Asked) -> Answer:
        async with redis.pipeline(transaction=False) as ask:
            ask.get(f"hand:features:{asked.user_id}")
            ask.lrange(f"hand:history:{asked.user_id}", 0, -1)
            ask.smembers("hand:off")
            for name in shop.budgets:
                ask.get(f"hand:budget:{name}")
            features, past, off, *spent = await ask.execute()
        if features is None:
            raise HTTPException(404, "unknown user")
        known = {**shop.defaults, **json.loads(features), **asked.context}
        units = dict(zip(shop.budgets, (int(one or 0) for one in spent), strict=True))
        names = shop.allowed(asked.surface, known, [json.loads(one) for one in past], units, off)
        offers, chance = [], 1.0
        if names:
            p = shop.scores(names, asked.surface, known)
            worth = [one * shop.offers[name]["score"]["value"] for one, name in zip(p, names, strict=True)]
            best = int(np.argmax(worth))
            if random.random() < EXPLORE:
                best = random.randrange(len(names))
            chance = EXPLORE / len(names) + (1 - EXPLORE) * (worth[best] == max(worth))
            name = names[best]
            language = str(asked.context.get("locale", "en")).split("-")[0]
            creative = f"{shop.offers[name]['creative']['key']}.{language}"
            offers.append(
                Shown(offer=name, slot=1, creative=creative, p_convert=p[best], score=worth[best], probability=chance)
            )
        answer = Answer(
            decision_id=uuid.uuid4().hex,
            surface=asked.surface,
            offers=offers,
            source="model",
            degraded=[],
            release=shop.release,
            model="upsell/1",
            expires_at=time.time() + 300,
        )
        told = {"at": time.time(), "user": asked.user_id, "context": asked.context, "known": known, "eligible": names}
        app.state.log.write(json.dumps(told | {"answer": answer.model_dump()}) + "\n")
        return answer

    return app


async def stock(redis: Redis, offers: int) -> None:
    """The users of the shop, as this service would keep them."""
    now = time.time()
    async with redis.pipeline(transaction=False) as write:
        for number, visit in enumerate(visits(USERS, offers)):
            plain = {n: sorted(v) if isinstance(v, frozenset) else v for n, v in visit.facts.features.items()}
            write.set(f"hand:features:{user_id(number)}", json.dumps(plain))
            past = [[e.type, e.offer, e.surface, e.at - visit.request.now + now] for e in visit.facts.history]
            write.delete(f"hand:history:{user_id(number)}")
            write.rpush(f"hand:history:{user_id(number)}", *map(json.dumps, past))
        await write.execute()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--shop", type=Path, required=True)
    words.add_argument("--redis", required=True)
    asked = words.parse_args()
    uvicorn.run(
        application(Home(asked.shop), asked.redis),
        port=asked.port, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning",
    )  # fmt: skip
