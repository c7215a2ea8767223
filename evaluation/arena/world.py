"""The world in which policies are compared: known truth, noisy features, delay, and fatigue that grows and fades.

The listeners, their tastes and the places are those of `world`; what is new is that everything is an array over users,
a day at a time, so that ten policies can live through months of it. All chance that is not a policy's own (who comes
when and where, whose mind is made up, how long that takes, and the draw) is fixed before the first policy starts:
common random numbers. Parameters and where they come from: docs/simulator.md.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from decisioning.catalog import DAY, Catalog, FeatureSpec, FeatureType
from decisioning.errors import UserError
from evaluation.arena.rules import eligible as eligible_users
from evaluation.simulator.aftermath import DELAY, OTHER_DELAY
from evaluation.simulator.simulation import OTHER_SHARE, SURFACE_SHARES
from evaluation.simulator.world import (
    FATIGUE,
    LATENTS,
    MARKET_SHARES,
    NOTICED,
    STRENGTH,
    Population,
    level,
    loadings,
    make_population,
    sigmoid,
)
from features.declared.account import TIERS
from models.encoding import Encoding
from models.frames import encode_facts

WARM_UP = 42
"""Days of evenly explored decisions before the comparison; at its start, four weeks of them have matured."""
FADES = 7.0
"""Days in which fatigue falls to 1/e: the same area as the seven days of `world.FATIGUE`."""
MOST_TIRED = 10.0
"""Fatigue beyond which nothing gets worse, in offers."""
SEEN = {
    "frustration": 0.29,
    "thrift": 0.54,
    "commitment": 0.75,
    "live": 0.76,
    "books": 0.57,
    "sound": 0.31,
    "household": 0.56,
}
"""How much of each taste's variance the features explain: as measured on the features of `segue data simulate`."""
RATE, FALL = 0.16, 1.15
"""An offer's usual rate is RATE × net^−FALL. FALL is set so that choosing by value earns 23 % more than choosing by
probability for whoever reads the features perfectly: what was once measured in a simulated subscription like this."""
SEASON, WEEKEND = 0.3, 0.15
"""Logits: the height of each group's yearly wave, and what a weekend adds."""
MOST_VISITS = 0.9
"""Visits a day of those who come most."""
RECENT = 7
"""Days of what `offers_seen_7d` counts."""

WORLD, TRUTH, VISITS = range(3)
"""Streams of random numbers, so that one doesn't hang on how much another uses."""


@dataclass(frozen=True)
class World:
    """U users, A offers, S surfaces, D days: warm-up first. Frozen: policies change their own state only."""

    catalog: Catalog
    people: Population
    offers: tuple[str, ...]
    surfaces: tuple[str, ...]
    net: np.ndarray
    """(A,) value net of cost per conversion."""
    delay: np.ndarray
    """(A,) mean days from decision to conversion."""
    within: float
    """Days after which a decision has matured: the longest window of any group."""
    eligible: np.ndarray
    """(U, A) bool."""
    stands: np.ndarray
    """(S, A) bool: which offers a surface shows."""
    logits: np.ndarray
    """(U, A)."""
    places: np.ndarray
    """(S, A)."""
    season: np.ndarray
    """(D, A)."""
    signals: np.ndarray
    """(U, latents) the tastes as features show them."""
    visits: np.ndarray
    """(D, U) the surface that a user meets that day, or −1."""
    mind: np.ndarray
    """(D, U) uniform: a decision of that day converts if this is below its chance."""
    patience: np.ndarray
    """(D, U) standard exponential: how long a conversion takes, in the offer's mean delays."""
    draw: np.ndarray
    """(D, U) uniform: what a policy draws its action with."""
    fatigue: float = FATIGUE
    """Logits lost for each offer that a user is tired of."""

    @property
    def days(self) -> int:
        """Days of comparison, after the warm-up."""
        return len(self.visits) - WARM_UP

    def p(self, day: int, user: np.ndarray, surface: np.ndarray, fatigue: np.ndarray) -> np.ndarray:
        """(n, A) the true chance of a conversion of each offer, were it shown."""
        logits = self.logits[user] + self.places[surface] + self.season[day] - self.fatigue * tired(fatigue)[:, None]
        return NOTICED * sigmoid(logits)

    def may(self, user: np.ndarray, surface: np.ndarray) -> np.ndarray:
        """(n, A) which offers the rules leave."""
        return self.eligible[user] & self.stands[surface]

    @cached_property
    def encoding(self) -> Encoding:
        specs = [
            FeatureSpec("age_years", FeatureType.FLOAT),
            FeatureSpec("market", FeatureType.ENUM, tuple(sorted(MARKET_SHARES))),
            FeatureSpec("offers_seen_7d", FeatureType.INT),
            FeatureSpec("tier", FeatureType.ENUM, TIERS),
            FeatureSpec("visits_28d", FeatureType.FLOAT),
            FeatureSpec("weekend", FeatureType.BOOL),
            *(FeatureSpec(f"signal_{name}", FeatureType.FLOAT) for name in LATENTS),
        ]
        sample = Encoding.of(self.catalog, self.surfaces, self.offers)
        return Encoding(tuple(sorted(specs, key=lambda spec: spec.name)), sample.surfaces, sample.offers)

    @cached_property
    def users_frame(self) -> pd.DataFrame:
        """(U rows) the features of users that stay the same."""
        people = self.people
        frame = {
            "age_years": people.age_days / 365.0,
            "market": pd.array(people.market, dtype="string"),
            "tier": pd.array(np.array(TIERS)[people.tier], dtype="string"),
            "visits_28d": (self.visits[:28] >= 0).sum(axis=0).astype(float),
        }
        return pd.DataFrame(frame | {f"signal_{name}": self.signals[:, at] for at, name in enumerate(LATENTS)})

    def facts(self, day: np.ndarray, user: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
        """(n rows) all that may be known at these decisions; `seen` (n,): offers shown in the last seven days."""
        moving = {"offers_seen_7d": pd.array(seen, "Int64"), "weekend": pd.array(is_weekend(day), "boolean")}
        return self.users_frame.iloc[user].reset_index(drop=True).assign(**moving)

    @cached_property
    def _still(self) -> np.ndarray:
        nobody = np.zeros(len(self.people), int)
        facts = self.facts(nobody, np.arange(len(self.people)), nobody)
        return encode_facts(self.encoding, facts, np.array([""] * len(facts), object))

    def contexts(self, day: int, user: np.ndarray, surface: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(n, context columns) what `encode_facts` makes of the same decisions, without the frames."""
        columns = {name: at for at, name in enumerate(self.encoding.context_columns)}
        out = self._still[user]
        out[:, columns["offers_seen_7d"]] = seen
        out[:, columns["weekend"]] = is_weekend(day)
        out[np.arange(len(user)), columns[f"surface={self.surfaces[0]}"] + surface] = 1.0
        return out


def tired(fatigue: np.ndarray) -> np.ndarray:
    return np.minimum(fatigue, MOST_TIRED)


def fade(fatigue: np.ndarray) -> np.ndarray:
    """Fatigue a day later, when nothing is shown."""
    return fatigue * np.exp(-1.0 / FADES)


def is_weekend(day: np.ndarray | int) -> np.ndarray:
    return np.asarray(day) % 7 >= 5


def make_world(catalog: Catalog, *, users: int, days: int, seed: int, fatigue: float = FATIGUE) -> World:
    """The world of a seed. Raises UserError for a catalog without offers to score, or where nobody may see any."""
    names = tuple(sorted(name for name, offer in catalog.offers.items() if offer.score.model is not None))
    if not names:
        raise UserError("The catalog has no offer with a model (`score: {model: …}`): there is nothing to learn.")
    offers = [catalog.offers[name] for name in names]
    surfaces = tuple(sorted(catalog.surfaces))
    stands = np.array([[surface in offer.surfaces for offer in offers] for surface in surfaces])
    surfaces, stands = tuple(np.array(surfaces)[stands.any(axis=1)].tolist()), stands[stands.any(axis=1)]
    people = make_population(np.random.default_rng([seed, WORLD]), users)
    net = np.array([offer.score.net for offer in offers])
    eligible = eligible_users(people, {name: catalog.offers[name].eligible for name in names})
    if not eligible.any():
        raise UserError("Under the catalog's rules no simulated listener may see any offer.")
    rng = np.random.default_rng([seed, TRUTH])
    logits = STRENGTH * people.tastes @ np.array([loadings(offer) for offer in offers]).T
    logits += [level(column, rate) for column, rate in zip(logits.T, usual_rates(net), strict=True)]
    places = rng.normal(0.0, 0.15, (len(surfaces), 1)) + rng.normal(0.0, 0.1, (len(surfaces), len(offers)))
    groups = sorted({offer.group for offer in offers})
    peaks = dict(zip(groups, rng.random(len(groups)), strict=True))
    return World(
        catalog=catalog,
        people=people,
        offers=names,
        surfaces=surfaces,
        net=net,
        delay=np.array([DELAY.get(offer.group, OTHER_DELAY) for offer in offers]) / DAY,
        within=max(catalog.group(group).within for group in groups) / DAY,
        eligible=eligible,
        stands=stands,
        logits=logits,
        places=places,
        season=_season(WARM_UP + days, np.array([peaks[offer.group] for offer in offers])),
        signals=_signals(rng, people),
        fatigue=fatigue,
        **_chances(np.random.default_rng([seed, VISITS]), people, surfaces, WARM_UP + days),
    )


def usual_rates(net: np.ndarray, fall: float = FALL) -> np.ndarray:
    """(A,) mean conversion rates: dear offers convert less often."""
    return np.clip(RATE * np.maximum(net, 0.05) ** -fall, 0.002, 0.16)


def _season(days: int, peaks: np.ndarray) -> np.ndarray:
    day = np.arange(days)[:, None]
    return SEASON * np.cos(2 * np.pi * (day / 364.0 - peaks)) + WEEKEND * is_weekend(day)


def _signals(rng: np.random.Generator, people: Population) -> np.ndarray:
    """Tastes with noise, so much that a straight line explains SEEN of their variance."""
    share = np.array([SEEN[name] for name in LATENTS])
    noise = people.tastes.std(axis=0) * np.sqrt((1 - share) / share)
    return people.tastes + noise * rng.standard_normal(people.tastes.shape)


def _chances(
    rng: np.random.Generator, people: Population, surfaces: tuple[str, ...], days: int
) -> dict[str, np.ndarray]:
    shape = (days, len(people))
    where = np.searchsorted(np.cumsum(surface_shares(surfaces))[:-1], rng.random(shape), side="right")
    comes = rng.random(shape) < visit_rates(people)
    return {
        "visits": np.where(comes, where, -1),
        "mind": rng.random(shape),
        "patience": rng.standard_exponential(shape),
        "draw": rng.random(shape),
    }


def visit_rates(people: Population) -> np.ndarray:
    """(U,) the chance of a visit on any day."""
    return np.minimum(people.pace, MOST_VISITS)


def surface_shares(surfaces: tuple[str, ...]) -> np.ndarray:
    """(S,) how often a visit is to each surface."""
    shares = np.array([SURFACE_SHARES.get(name, OTHER_SHARE) for name in surfaces])
    return shares / shares.sum()
