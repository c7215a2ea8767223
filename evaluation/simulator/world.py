"""The simulated listeners: what they are like in truth, and how likely each is to take each offer.

Latent tastes are standard normal. Nothing of them is in any table: models see only what listeners do (`listening`).
Another catalog than the sample works too: an offer of an unknown kind gets tastes that follow from its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from decisioning.catalog import Catalog, Offer

LATENTS = ("frustration", "thrift", "commitment", "live", "books", "sound", "household")

MARKET_SHARES = {"SE": 0.10, "GB": 0.17, "US": 0.27, "BR": 0.16, "IN": 0.14, "ID": 0.10, "NO": 0.06}
MARKET_THRIFT = {"SE": -0.4, "GB": -0.2, "US": -0.4, "BR": 0.5, "IN": 0.9, "ID": 0.9, "NO": -0.6}
ZONES = {
    "SE": ("Europe/Stockholm", 1, "sv"),
    "GB": ("Europe/London", 0, "en"),
    "US": ("America/New_York", -5, "en"),
    "BR": ("America/Sao_Paulo", -3, "pt"),
    "IN": ("Asia/Kolkata", 5, "hi"),
    "ID": ("Asia/Jakarta", 7, "id"),
    "NO": ("Europe/Oslo", 1, "nb"),
}
"""Time zone, whole hours ahead of UTC as far as listening goes, and language."""

TASTES: Mapping[str, Mapping[str, float]] = {
    "trial": {"frustration": 0.9, "thrift": 0.5},
    "winback": {"frustration": 0.8, "commitment": 0.5},
    "monthly": {"frustration": 0.9, "thrift": -0.9},
    "annual": {"commitment": 1.1, "thrift": -0.8},
    "intro": {"frustration": 0.6, "thrift": 0.7},
    "basic": {"thrift": 0.8, "commitment": 0.5},
    "pass": {"thrift": 1.0, "commitment": -0.7},
    "student": {"frustration": 0.6, "thrift": 0.8},
    "duo": {"household": 0.7, "thrift": -0.5},
    "family": {"household": 1.2},
    "hifi": {"sound": 1.2},
    "audiobooks": {"books": 1.2},
    "ticket": {"live": 1.2},
    "vinyl": {"sound": 0.7, "live": 0.7, "thrift": -0.6},
    "bundle": {"live": 1.0, "thrift": -0.5},
    "apparel": {"live": 1.0, "thrift": 0.4},
    "poster": {"live": 0.5, "thrift": 0.9},
    "device": {"sound": 1.1},
    "gift": {"household": 0.9},
}
STRENGTH = 1.2
"""How far tastes move the logit of a conversion."""
FATIGUE = 0.10
"""The logit lost for each offer seen in the last seven days, up to ten."""
NOTICED = 0.97
"""How often what was selected was really on the screen."""


@dataclass
class Population:
    """The listeners, as arrays of shape (n,). Only `tier` changes as days go by."""

    ids: np.ndarray
    market: np.ndarray
    """Names."""
    tastes: np.ndarray
    """(n, len(LATENTS)), standard normal."""
    pace: np.ndarray
    """Sessions a day."""
    age_days: np.ndarray
    signup_days: np.ndarray
    """Days from sign-up to the first simulated day."""
    night_owl: np.ndarray
    hifi_device: np.ndarray
    tier: np.ndarray
    """0 free, 1 basic, 2 premium."""
    follows: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def taste(self, name: str) -> np.ndarray:
        return self.tastes[:, LATENTS.index(name)]


def make_population(rng: np.random.Generator, users: int) -> Population:
    """`users` listeners; who pays and how much they listen already leans on their tastes."""
    markets = np.array(list(MARKET_SHARES))
    market = rng.choice(markets, users, p=list(MARKET_SHARES.values()))
    tastes = rng.standard_normal((users, len(LATENTS)))
    thrift = LATENTS.index("thrift")
    lean = np.array([MARKET_THRIFT[name] for name in market])
    age_days = rng.gamma(6.0, 5.5 * 365, users).clip(14 * 365, 85 * 365)
    young = np.clip((12_000 - age_days) / 6_000, -1.0, 1.0)
    tastes[:, thrift] = (0.6 * tastes[:, thrift] + lean + 0.6 * young) / 0.95
    pays = -0.5 - 0.8 * tastes[:, thrift] + rng.logistic(size=users)
    return Population(
        ids=np.array([f"u{number:06d}" for number in range(users)]),
        market=market,
        tastes=tastes,
        pace=0.40 * rng.gamma(1.3, 1 / 1.3, users) + 0.02,
        age_days=age_days,
        signup_days=(350.0 * np.exp(tastes[:, LATENTS.index("commitment")] * 0.8) * rng.gamma(5, 0.2, users)).clip(
            31, 4_000
        ),
        night_owl=rng.beta(1.2, 5.0, users),
        hifi_device=rng.random(users) < sigmoid(-0.8 + 2.5 * tastes[:, LATENTS.index("sound")]),
        tier=np.where(pays > 0.9, 2, np.where(pays > 0.3, 1, 0)),
        follows=rng.poisson(4.0 * np.exp(0.7 * tastes[:, LATENTS.index("live")])),
    )


@dataclass(frozen=True)
class Truth:
    """How likely everybody is to take everything, before fatigue and place."""

    offers: tuple[str, ...]
    surfaces: tuple[str, ...]
    logits: np.ndarray
    """(users, offers)."""
    places: np.ndarray
    """(surfaces, offers): what the place adds to the logit."""

    def true_p(self, user: int, surface: str, seen_7d: int, closed: np.ndarray | None = None) -> np.ndarray:
        """The probability of a conversion for each of `offers` if selected now; shape (offers,).

        `seen_7d`: offers shown to the user in the last 7 days. `closed`: which offers can't convert any more, because
        the user has already taken one like it.
        """
        logits = self.logits[user] + self.places[self.surfaces.index(surface)] - FATIGUE * min(seen_7d, 10)
        p = NOTICED * sigmoid(logits)
        return p if closed is None else np.where(closed, 0.0, p)


def make_truth(rng: np.random.Generator, catalog: Catalog, people: Population) -> Truth:
    """Tastes to logits, each offer's level set so that dear offers convert less often than cheap ones."""
    offers = tuple(sorted(catalog.offers))
    surfaces = tuple(sorted(catalog.surfaces))
    weights = np.array([loadings(catalog.offers[name]) for name in offers])
    logits = STRENGTH * people.tastes @ weights.T
    for at, name in enumerate(offers):
        logits[:, at] += level(logits[:, at], usual_rate(catalog.offers[name]))
    places = rng.normal(0.0, 0.15, (len(surfaces), 1)) + rng.normal(0.0, 0.1, (len(surfaces), len(offers)))
    return Truth(offers, surfaces, logits, places)


def loadings(offer: Offer) -> np.ndarray:
    """What tastes an offer speaks to, by its `kind`; by its name where that is unknown."""
    tastes = TASTES.get(str(offer.attributes.get("kind", "")))
    if tastes is None:
        seed = int.from_bytes(blake2b(offer.name.encode(), digest_size=4).digest(), "big")
        return np.random.default_rng(seed).normal(0.0, 0.5, len(LATENTS))
    return np.array([tastes.get(name, 0.0) for name in LATENTS])


def usual_rate(offer: Offer) -> float:
    """The mean conversion rate of an offer: falls with its net value, so that none wins by value alone."""
    return float(np.clip(0.16 * max(offer.score.net, 0.05) ** -0.65, 0.01, 0.12))


def level(logits: np.ndarray, rate: float) -> float:
    """The constant that makes the mean of sigmoid(logits + constant) the rate, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logits + middle).mean() < rate else (low, middle)
    return (low + high) / 2


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits))


def policy_values(
    p: np.ndarray, may: np.ndarray, surfaces: Sequence[str], net: np.ndarray, fallback: float = 0.0
) -> dict[str, float]:
    """Net value a decision of three policies under the truth: random, the best single offer, and the best choice.

    `p` and `may` (allowed): (decisions, offers); `surfaces`: of each decision; `net`: (offers,). The best single offer
    is each surface's static order by mean net value, of which everybody gets the first that they may have. Where
    nothing is allowed the value is `fallback`.
    """
    value = p * net
    none = ~may.any(axis=1)
    best = np.where(none, fallback, np.where(may, value, -np.inf).max(axis=1))
    chance = np.where(none, fallback, (value * may).sum(axis=1) / np.maximum(may.sum(axis=1), 1))
    single = np.full(len(p), fallback)
    places = np.asarray(surfaces)
    for surface in np.unique(places):
        rows = places == surface
        means = (value[rows] * may[rows]).sum(axis=0) / np.maximum(may[rows].sum(axis=0), 1)
        rank = np.where(may[rows], means, -np.inf)
        chosen = rank.argmax(axis=1)
        some = may[rows].any(axis=1)
        single[rows] = np.where(some, value[rows][np.arange(rows.sum()), chosen], fallback)
    return {"random": chance.mean(), "best_single_offer": single.mean(), "optimal": best.mean()}
