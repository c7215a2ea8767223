"""A server's runtime without HTTP, over any store, for a catalog that a test builds by hand."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from decisioning.catalog import Catalog, Offer, Score, Surface
from decisioning.engine import Release
from decisioning.identity import user_key
from serving import events
from serving.deciding import decide
from serving.guarded.breaker import GuardedStore
from serving.runtime import Current, Runtime
from stores.log.decision_log import DecisionRecord, decode
from stores.log.event_log import MemoryLog
from stores.online.port import OnlineStore

SECRET = b"a secret for tests, 32 bytes lon"
NOW = 1_800_000_000.0


def shop(*offers: Offer, surfaces: tuple[Surface, ...] = (), **rules) -> Release:
    """`generic` is everywhere, and worth least."""
    surfaces = surfaces or (Surface("banner", fallback="generic", deadline=0.05),)
    everywhere = tuple(one.name for one in surfaces)
    every = (*offers, Offer("generic", "growth", "fallback", everywhere, Score(None, 0.01)))
    catalog = Catalog("c" * 16, offers={o.name: o for o in every}, surfaces={s.name: s for s in surfaces}, **rules)
    return Release("r1", catalog, salt="s")


def offer(name: str, value: float = 10.0, surfaces: tuple[str, ...] = ("banner",), **more) -> Offer:
    return Offer(name, "growth", more.pop("group", "upgrade"), surfaces, Score(None, value), **more)


@dataclass
class Server:
    """One of the servers of a shop: several may share a store."""

    store: OnlineStore
    release: Release
    now: float = NOW
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = Runtime(
            SECRET, GuardedStore(self.store), MemoryLog(), MemoryLog(), clock=lambda: self.now, current=Current.of(
                self.release
            )
        )  # fmt: skip

    def use(self, release: Release) -> None:
        self.release, self.runtime.current = release, Current.of(release)

    async def decide(self, user: str = "ann", surface: str = "banner", **more) -> dict:
        body = json.dumps({"user_id": user, "surface": surface, **more}).encode()
        return json.loads(await decide.answer(self.runtime, body))

    async def shown(self, user: str = "ann", surface: str = "banner", **more) -> list[str]:
        return [one["offer"] for one in (await self.decide(user, surface, **more))["offers"]]

    async def report(self, answer: dict, user: str = "ann", type: str = "impression", slot: int = 1, **more) -> dict:
        shown = answer["offers"][slot - 1]["offer"]
        event = {"event_id": f"{type}:{answer['decision_id']}:{slot}", "type": type, "user_id": user, "offer": shown,
                 "decision_id": answer["decision_id"], "at": self.now, "surface": answer["surface"]}  # fmt: skip
        return json.loads(await events.answer(self.runtime, json.dumps(event | more).encode()))

    async def out(self, *budgets: str) -> dict[str, int]:
        facts = await self.store.read(user_key(SECRET, "nobody"), self.runtime.current.schema, budgets)
        return dict(facts.budgets)

    async def stop(self) -> None:
        await self.runtime.store.close()

    @property
    def lines(self) -> list[bytes]:
        return self.runtime.decisions.lines

    @property
    def records(self) -> Iterator[DecisionRecord]:
        return map(decode, self.lines)


def told(*servers: Server):
    """Runs a story, and then stops its servers: `told(server)(story)`."""

    def run(story) -> None:
        async def all_of_it() -> None:
            try:
                await story()
            finally:
                for server in servers:
                    await server.stop()

        asyncio.run(all_of_it())

    return run
