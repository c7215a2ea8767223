"""One simulation as it goes: features each morning, sessions all day, decisions in some of them, and what follows."""

import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from decisioning.catalog import DAY, Ablations, Catalog, Exploration
from decisioning.domain import MILLION, NOTHING, Decision, Facts, Request, Value
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from decisioning.identity import user_key
from evaluation.simulator.aftermath import Aftermath
from evaluation.simulator.listening import Sessions, events_before, events_of_day, sessions_of_day
from evaluation.simulator.world import ZONES, Population, Truth, make_population, make_truth, policy_values
from features.compute import compute
from features.definitions import defined
from features.frames import pack_frame
from features.schema import Schema
from stores.tables import Tables

WARM_UP = 28
"""Days of listening before the first decision, so that 28-day features are whole."""
DECISIONS_PER_DAY = 0.15
"""Per user, on average; a user gets at most two a day."""
SURFACE_SHARES = {"home_banner": 0.36, "paywall": 0.16, "merch_shelf": 0.18, "now_playing": 0.14, "push": 0.09}
OTHER_SHARE = 0.07
DEVICES = {"hifi": "speaker"}
SECRET = b"simulated listeners"
"""Keys the users of a simulation, so that it doesn't depend on the secret of a home."""


def explorer(catalog: Catalog) -> Catalog:
    """The same rules, with everything that they leave drawn evenly and nobody held out."""
    return replace(catalog, exploration=Exploration(1.0, 0.0), holdouts=(), experiments=(), ablations=Ablations())


class Simulation:
    """The state of one simulation, from its first day to its last. `seconds`: what its parts took."""

    def __init__(self, catalog: Catalog, users: int, days: int, seed: int, end: datetime) -> None:
        self.catalog, self.days, self.seed, self.end = catalog, days, seed, end
        self.start = (end - timedelta(days=days)).timestamp()
        rng = np.random.default_rng([seed, 0])
        self.people: Population = make_population(rng, users)
        self.truth: Truth = make_truth(rng, catalog, self.people)
        self.schema = Schema.of(catalog.features)
        self.release = Release("simulation", catalog, salt=f"simulation-{seed}")
        self.keys = [user_key(SECRET, name) for name in self.people.ids]
        self.after = Aftermath(catalog, self.people, self.truth, end.timestamp())
        self.events: list[pa.Table] = events_before(rng, self.people, self.start)
        self.users = pa.Table.from_pandas(self.listeners(), preserve_index=False)
        self.decisions: list[dict[str, Any]] = []
        self.facts: list[pd.DataFrame] = []
        self.true_p: list[np.ndarray] = []
        self._shares = np.cumsum([SURFACE_SHARES.get(name, OTHER_SHARE) for name in self.truth.surfaces])
        self.budgets = {budget.name: 0 for budget in catalog.budgets}
        self.seconds: dict[str, float] = {"features": 0.0, "decisions": 0.0}
        for day in range(-WARM_UP, 0):
            self._listen(day)

    def one_day(self, day: int) -> None:
        """Features as of its start, a day of listening, some decisions in it, and what follows from them."""
        start = self.start + day * DAY
        self.after.tiers_as_of(start)
        sessions, rng = self._listen(day)
        chosen = self._moments(rng, sessions)
        users = sessions.user[chosen]

        now = time.perf_counter()
        asked = np.unique(users)
        snapshot = self._snapshot(asked, start)
        packed = dict(zip(asked.tolist(), pack_frame(self.schema, snapshot), strict=True))
        self.seconds["features"] += time.perf_counter() - now

        now = time.perf_counter()
        before = len(self.decisions)
        made = [
            self._decide(rng, sessions, row, f"s{self.seed}-{day:03d}-{user:06d}-{row}", packed[user].tobytes(), start)
            for row, user in zip(chosen.tolist(), users.tolist(), strict=True)
        ]
        rows = np.searchsorted(asked, users[np.array(made, dtype=bool)])
        facts = snapshot.iloc[rows].drop(columns=["user_id", "as_of"])
        facts.insert(0, "decision_id", pd.array([row["decision_id"] for row in self.decisions[before:]], "string"))
        self.facts.append(facts)
        self.events.append(self.after.new_events())
        self.seconds["decisions"] += time.perf_counter() - now

    def _listen(self, day: int) -> tuple[Sessions, np.random.Generator]:
        """A stream of its own for each day, so that one day's events don't hang on the decisions of another."""
        start = self.start + day * DAY
        rng = np.random.default_rng([self.seed, day + WARM_UP + 1])
        sessions = sessions_of_day(rng, self.people, start)
        self.events += events_of_day(rng, self.people, start, sessions)
        return sessions, rng

    def _snapshot(self, users: np.ndarray, moment: float) -> pd.DataFrame:
        """The snapshot of that moment, as far as it is needed: the users who will be asked about that day."""
        as_of = pd.Timestamp(moment, unit="s", tz="UTC")
        observations = pd.DataFrame({"user_id": self.people.ids[users], "as_of": as_of})
        return compute(self.users, self.event_table(), observations, defined(self.schema.names))

    def _moments(self, rng: np.random.Generator, sessions: Sessions) -> np.ndarray:
        """The sessions in which a surface asks: at most two of a user, in order of time."""
        mean = max(len(sessions.user), 1) / len(self.people)
        asked = np.flatnonzero(rng.random(len(sessions.user)) < DECISIONS_PER_DAY / mean * 1.03)
        earlier = pd.Series(sessions.user[asked]).groupby(sessions.user[asked]).cumcount().to_numpy()
        return asked[earlier < 2]

    def _decide(
        self,
        rng: np.random.Generator,
        sessions: Sessions,
        row: int,
        decision_id: str,
        packed: bytes,
        as_of: float,
    ) -> bool:
        """One decision and its aftermath. False where the rules left nothing to draw from."""
        user, now = int(sessions.user[row]), float(sessions.at[row]) + 0.5
        surface = self._surface(rng)
        request = Request(decision_id, self.keys[user], surface, now, self._context(sessions, row), slots=1)
        facts = Facts(self.schema.unpack(packed), as_of, self.after.history(user, now), self.budgets)
        decision = decide(self.release, request, facts)
        fate = rng.random(4)
        if decision.policy is None:
            return False
        p = self.after.true_p(user, surface, now)
        self._log(decision, user, now, p)
        if decision.first != NOTHING:
            self.after.follow(decision, user, now, float(p[self.truth.offers.index(decision.first)]), fate)
        return True

    def _log(self, decision: Decision, user: int, now: float, p: np.ndarray) -> None:
        policy = decision.policy
        weight = policy.weights[policy.offers.index(decision.first)]
        self.decisions.append(
            {
                "decision_id": decision.decision_id,
                "user_id": self.people.ids[user],
                "at": now,
                "surface": decision.surface,
                "offer": decision.first,
                "probability": weight / MILLION,
                "eligible": list(policy.offers),
            }
        )
        self.true_p.append(np.where(np.isin(self.truth.offers, policy.offers), p, np.nan))

    def _surface(self, rng: np.random.Generator) -> str:
        at = np.searchsorted(self._shares, rng.random() * self._shares[-1], side="right")
        return self.truth.surfaces[int(at)]

    def _context(self, sessions: Sessions, row: int) -> dict[str, Value]:
        market = str(self.people.market[sessions.user[row]])
        zone, _, language = ZONES[market]
        device = str(sessions.device[row])
        return {
            "country": market,
            "device": DEVICES.get(device, device),
            "locale": language,
            "timezone": zone,
            "hour": int(sessions.hour[row]),
        }

    # --- What comes out ---

    def event_table(self) -> pa.Table:
        return pa.concat_tables(self.events)

    def listeners(self) -> pd.DataFrame:
        start = pd.Timestamp(self.start, unit="s", tz="UTC")
        return pd.DataFrame(
            {
                "user_id": pd.array(self.people.ids, dtype="string"),
                "signup_at": (start - pd.to_timedelta(self.people.signup_days, "D")).floor("s"),
                "born_at": (start - pd.to_timedelta(self.people.age_days, "D")).floor("s"),
                "market": pd.array(self.people.market, dtype="string"),
            }
        )

    def tables(self) -> Tables:
        if not self.decisions:
            raise UserError("Under the catalog's rules no offer could be shown to any simulated listener.")
        text = dict.fromkeys(("decision_id", "user_id", "surface", "offer"), "string")
        decisions = pd.DataFrame(self.decisions).astype(text)
        decisions["at"] = moments(decisions["at"])
        dataset = {
            "source": "simulator",
            "seed": self.seed,
            "until": self.end.isoformat(),
            "days": self.days,
            "features": self.schema.to_json(),
        }
        facts = pd.concat(self.facts, ignore_index=True)
        return Tables(facts, decisions, self.after.outcomes(), dataset)

    def truth_frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(np.array(self.true_p), columns=list(self.truth.offers))
        frame.insert(0, "decision_id", pd.array([row["decision_id"] for row in self.decisions], dtype="string"))
        return frame

    def values(self) -> dict[str, float]:
        p = np.array(self.true_p)
        net = np.array([self.catalog.offers[name].score.net for name in self.truth.offers])
        return policy_values(np.nan_to_num(p), ~np.isnan(p), [row["surface"] for row in self.decisions], net)


def moments(seconds: pd.Series) -> pd.Series:
    """Epoch seconds as datetime64[ns, UTC]."""
    return pd.to_datetime((seconds * 1e6).round().astype("int64"), unit="us", utc=True).astype("datetime64[ns, UTC]")
