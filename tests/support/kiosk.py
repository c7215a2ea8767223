"""A small shop with a log: decisions that its release made, and what followed them, with a known truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Event, Facts, HistoryEvent, Request
from decisioning.engine import Release, decide
from decisioning.identity import user_key
from evaluation.whatif.proposals import Proposal
from stores.home import Home
from stores.log.decision_log import DecisionRecord, encode, event_line
from stores.log.event_log import EventLog
from stores.releases import ReleaseStore
from workbench import release_of

NOW = 1_800_000_000.0
DAY = 86_400.0
CATALOG = """
features:
  tier: {type: enum, values: [free, basic, premium]}
  market: {type: enum, values: [SE, GB]}
  device: {type: enum, values: [phone, tv], from: context}
surfaces:
  banner: {slots: 1, fallback: generic, allow_nothing: true}
  shelf: {slots: 2, fallback: generic}
  push: {slots: 1, fallback: null, allow_nothing: true, sticky: 1d, min_score: 0.3}
groups:
  plans: {within: 3d}
  house: {converts_on: click, within: 1d}
offers:
  annual: {owner: pm, group: plans, surfaces: [banner, shelf, push], score: {value: 40, prior: 0.02},
           eligible: {tier: [free, basic]}}
  monthly: {owner: pm, group: plans, surfaces: [banner, shelf, push], score: {value: 10, prior: 0.06}}
  student: {owner: pm, group: plans, surfaces: [banner, shelf], score: {value: 10, prior: 0.05},
            eligible: {market: SE}}
  generic: {owner: pm, group: house, surfaces: [shelf], score: {value: 0.1, prior: 0.01}}
guards:
  no_tv: {block_if: {device: tv}, only: {offer: monthly}}
suppress:
  after_dismiss: {after: dismiss, same: offer, for: 14d, except: {offer: generic}}
levers:
  push_annual: {only: {offer: annual, surface: shelf}, times: 0.7, until: 2030-01-01, owner: pm, why: shelf is small}
lever_bounds: {min: 0.25, max: 4.0}
holdouts:
  control: {percent: 5, salt: k, show: best_single_offer}
exploration: {uniform: 0.3, challenger: 0}
"""
TRUTH: Mapping[str, float] = {"annual": 0.05, "monthly": 0.10, "student": 0.02, "generic": 0.01, "nothing": 0.0}
"""The true chance of a conversion: not what the catalog assumes."""


@dataclass(frozen=True)
class Kiosk:
    """A home with a release and a log."""

    home: Home
    release: Release

    @property
    def load(self):
        return partial(release_of, self.home)

    def proposal(self, text: str | None = None, **more) -> Proposal:
        files = None if text is None else {"all.yaml": text.encode()}
        return Proposal(self.load, more.pop("base", self.release.id), files, **more)

    def records(self, n: int, seed: int = 0, *, release: Release | None = None, **more) -> list[DecisionRecord]:
        return [self.record(number, Random(f"{seed}-{number}"), release or self.release, **more) for number in range(n)]

    def record(
        self, number: int, random: Random, release: Release, *, days: float = 20.0, users: int = 10**9, surfaces=None
    ) -> DecisionRecord:
        surface = random.choice(surfaces or ["banner", "shelf", "push"])
        now = NOW - days * DAY * random.random()
        values = {"tier": random.choice(["free", "free", "basic", "premium"]), "market": random.choice(["SE", "GB"])}
        if random.random() < 0.1:
            del values["market"]
        history = (HistoryEvent("dismiss", random.choice(["annual", "monthly"]), surface, now - DAY),)
        facts = Facts(values, now - 3600, history if random.random() < 0.2 else ())
        user = user_key(b"a secret of 16 b", str(random.randrange(users)))
        context = {"device": random.choice(["phone", "tv"])}
        request = Request(f"{number:08x}{random.getrandbits(64):016x}.{surface}", user, surface, now, context)
        return DecisionRecord(request, facts, decide(release, request, facts))

    def log(self, records, *, seed: int = 0, truth: Mapping[str, float] = TRUTH) -> None:
        """Writes records in the order of time, and what followed them."""
        random = Random(seed)
        decisions, events = EventLog(self.home.logs / "decisions"), EventLog(self.home.logs / "events")
        for record in sorted(records, key=lambda one: one.request.now):
            decisions.append(encode(record))
            for line in followed(record, random, truth):
                events.append(line)
        decisions.close()
        events.close()


def followed(record: DecisionRecord, random: Random, truth: Mapping[str, float]):
    request, offer = record.request, record.decision.first
    if offer == "nothing":
        return
    parts = (request.decision_id, offer, request.user, request.surface)
    yield event_line(Event(f"i-{request.decision_id}", "impression", *parts, request.now + 1.0))
    if random.random() < truth[offer]:
        kind = "click" if offer == "generic" else "convert"
        yield event_line(Event(f"c-{request.decision_id}", kind, *parts, request.now + DAY * random.random(), 5.0))


def kiosk(path: Path, text: str = CATALOG) -> Kiosk:
    """A home whose release has no model: offers go by the catalog's own guesses."""
    home = Home(path)
    releases = ReleaseStore(home.releases)
    release = releases.publish({"catalog/all.yaml": text.encode()}, who="test", why="a start", now=NOW)
    releases.activate(release, expected=None, who="test", why="a start", now=NOW)
    load_catalog({"all.yaml": text.encode()})
    return Kiosk(home, releases.load(release))
