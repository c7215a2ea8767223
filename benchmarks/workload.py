"""The reference workload of the figures: a catalog as product managers write them, and users; the same by seed.

50 offers (or more) with 3 to 5 clauses each, most of them about a dozen of the 40 user features, some through shared
audiences and some with alternatives; 20 numbers an offer for the model; guards, suppression, caps, budgets, quiet
hours, exclusivity, levers, a holdout, experiments, exploration. A typical user may see about 30 of 50 offers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import yaml

from decisioning.domain import Facts, HistoryEvent, Request, Scores, Value

NOW = 1_800_000_000.0  # 2027-01-15T08:00Z
DAY = 86_400.0
SURFACE, SHELF = "home_banner", "shelf"
"""One slot; three slots under group limits. Every offer competes on both."""

MARKETS = ["SE", "GB", "US", "BR", "IN", "ID", "NO", "DE", "FR", "MX"]
AGES = ["u18", "18_24", "25_34", "35_49", "50_plus"]
DEVICES = ["phone", "desktop", "tablet", "tv", "speaker", "car"]
ADDONS = ["audiobooks", "hifi", "family"]
GROUPS = ["plan_upgrade", "plan_switch", "addon", "merch", "tickets", "trial"]
SIGNALS = [f"signal_{number:02d}" for number in range(22)]
"""The long tail: numbers that the model reads and hardly a condition asks for."""

FEATURES: dict[str, dict[str, Any]] = {
    "tier": {"type": "enum", "values": ["free", "basic", "premium"]},
    "market": {"type": "enum", "values": MARKETS},
    "age_band": {"type": "enum", "values": AGES},
    "is_student": {"type": "bool"},
    "had_trial": {"type": "bool"},
    "payment_failed": {"type": "bool", "if_missing": "block"},
    "consent_marketing": {"type": "bool", "if_missing": "block"},
    "owned_addons": {"type": "set", "values": ADDONS},
    "days_on_tier": {"type": "int"},
    "sessions_7d": {"type": "int", "default": 0, "max_age": "36h"},
    "sessions_28d": {"type": "int", "default": 0},
    "minutes_7d": {"type": "float", "default": 0},
    "skips_limited_7d": {"type": "int", "default": 0},
    "ads_heard_7d": {"type": "int", "default": 0},
    "followed_artists": {"type": "int", "default": 0},
    "device": {"type": "enum", "values": DEVICES, "from": "context"},
    "app_version": {"type": "text", "from": "context"},
    "timezone": {"type": "text", "from": "context"},
    **{name: {"type": "float", "default": 0} for name in SIGNALS},
}  # 40 of them; the locale of creatives comes on top
AUDIENCES: dict[str, dict[str, Any]] = {
    "adults": {"age_band": {"not": "u18"}},
    "engaged": {"any": [{"sessions_7d": {"min": 2}}, {"skips_limited_7d": {"min": 3}}, {"minutes_7d": {"min": 30}}]},
    "settled": {"days_on_tier": {"min": 14}, "sessions_28d": {"min": 5}},
    "screens": {"device": ["phone", "desktop", "tablet", "tv"]},
}


def catalog_text(offers: int = 50, seed: int = 7) -> dict[str, bytes]:
    """The catalog's files, as `load_catalog` takes them."""
    random = Random(seed)
    names = [f"offer_{number:04d}" for number in range(offers)]
    files: dict[str, Any] = {
        "features.yaml": {"features": {**FEATURES, "locale": {"type": "text", "from": "context"}}},
        "audiences.yaml": {"audiences": AUDIENCES},
        "surfaces.yaml": {"surfaces": _surfaces(), "groups": {name: {"within": "14d"} for name in GROUPS}},
        "rules.yaml": _rules(names, random),
        "experiments.yaml": _experiments(names),
    }
    for group in GROUPS:
        own = {name: _offer(name, group, random) for name in names[GROUPS.index(group) :: len(GROUPS)]}
        files[f"offers/{group}.yaml"] = {"offers": own}
    return {name: yaml.safe_dump(content, default_flow_style=None).encode() for name, content in files.items()}


def _surfaces() -> dict[str, Any]:
    return {
        SURFACE: {"slots": 1, "fallback": None, "allow_nothing": True, "deadline": "30ms"},
        SHELF: {"slots": 3, "fallback": None, "max_per_group": 2},
        "push": {"slots": 1, "fallback": None, "min_score": 0.02},
    }


def _offer(name: str, group: str, random: Random) -> dict[str, Any]:
    attributes = {f"trait_{number:02d}": round(random.random(), 3) for number in range(20)}
    return {
        "owner": f"{group}-pm",
        "group": group,
        "surfaces": [SURFACE, SHELF],
        "score": {"model": "upsell", "value": round(random.uniform(5, 40), 2), "cost": 1.0, "prior": 0.02},
        "attributes": attributes,
        "eligible": _eligible(random),
        "creative": {"key": name, "locales": ["en", "sv", "pt"]},
    }


def _eligible(random: Random) -> dict[str, Any]:
    """3 to 5 clauses, as people write them: mostly mild ones about the same few features."""
    clauses = random.randint(3, 5)
    found: dict[str, Any] = {}
    if random.random() < 0.4:
        found["audience"] = random.choice(sorted(AUDIENCES))
    if random.random() < 0.15:
        found["any"] = [{"is_student": True}, {"days_on_tier": {"max": 900}}]
    if random.random() < 0.05:
        found[random.choice(SIGNALS)] = {"max": round(random.uniform(0.9, 1.0), 2)}
    taken = set(AUDIENCES[found["audience"]]) if "audience" in found else set()
    templates: dict[str, Any] = {
        "tier": random.choice([["free", "basic"], "free", {"not": "premium"}, ["free", "basic", "premium"]]),
        "market": {"not": sorted(random.sample(MARKETS[3:], 1))},
        "device": {"not": sorted(random.sample(["tv", "speaker", "car"], random.choice([1, 2])))},
        "age_band": {"not": "u18"},
        "had_trial": random.choice([False, {"not": True}]),
        "payment_failed": False,
        "owned_addons": {"lacks": random.choice(ADDONS)},
        "days_on_tier": {"min": random.choice([7, 14, 30]), "max": random.choice([600, 900, 1200])},
        "sessions_7d": {"min": random.choice([1, 2, 3])},
        "sessions_28d": {"min": random.choice([8, 10, 14])},
        "minutes_7d": {"min": random.choice([45.5, 60, 75])},
        "app_version": {"version_min": random.choice(["8.1", "8.4.2"])},
    }
    for name in random.sample(sorted(templates), len(templates)):
        if len(found) < clauses and name not in taken:
            found[name] = templates[name]
    return found


def _rules(names: Sequence[str], random: Random) -> dict[str, Any]:
    return {
        "guards": {
            "needs_consent": {"require": {"consent_marketing": True}, "only": {"surface": "push"}},
            "billing_first": {"block_if": {"payment_failed": True}, "only": {"group": ["plan_upgrade", "plan_switch"]}},
            "no_cars": {"block_if": {"device": "car"}, "only": {"group": "tickets"}},
        },
        "suppress": {
            "after_dismiss": {"after": "dismiss", "same": "offer", "for": "14d"},
            "after_convert": {"after": "convert", "same": "group", "for": "30d", "except": {"group": "merch"}},
            "tired": {"after": {"impression": 3, "within": "7d"}, "same": "offer", "for": "10d"},
        },
        "caps": {
            "per_offer": {"max": 3, "per": "7d", "by": "offer"},
            "per_group": {"max": 8, "per": "7d", "by": "group"},
            "per_surface": {"max": 12, "per": "1d", "by": "surface"},
        },
        "budgets": {
            # Hard ones guard scarce offers: about a decision in twenty has to take a unit before it answers.
            "winter": {"offers": names[3:6], "impressions": 2_000_000, "hard": True},
            "spring": {
                **{"offers": names[:3], "impressions": 1_000_000, "from": "2027-01-01", "until": "2027-12-31"},
                **{"pace": "even", "hard": False},
            },
        },
        "quiet_hours": {"night": {"surfaces": ["push"], "from": "22:00", "to": "07:00", "timezone": "user"}},
        "exclusive": {
            "one_price": {"offers": names[6:9], "for": "14d"},
            "one_trial": {"offers": names[9:12], "for": "7d"},
        },
        "levers": {
            "campaign": {"only": {"offer": names[2]}, "times": 1.3, **_signed()},
            "calm": {"only": {"group": "merch", "surface": SURFACE}, "times": 0.8, **_signed()},
            "tickets": {"only": {"group": "tickets"}, "times": 1.1, **_signed()},
        },
        "lever_bounds": {"min": 0.25, "max": 4.0},
    }


def _signed() -> dict[str, str]:
    return {"until": "2027-12-31", "owner": "growth-pm", "why": "the reference workload"}


def _experiments(names: Sequence[str]) -> dict[str, Any]:
    def halves(path: str, value: float) -> dict[str, Any]:
        return {"control": {"percent": 50}, "changed": {"percent": 50, "set": {path: value}}}

    return {
        "holdouts": {"global_2027q1": {"percent": 2, "salt": "h27q1", "show": "best_single_offer"}},
        "experiments": {
            "price": {
                **{"layer": "pricing", "audience": "engaged", "starts_at": 0, "percent": 50},
                "arms": halves(f"offers.{names[0]}.score.value", 21.0),
            },
            "price_too": {
                **{"layer": "pricing", "starts_at": 50, "percent": 25},
                "arms": halves(f"offers.{names[1]}.score.value", 12.0),
            },
            "calmer": {"layer": "levers", "audience": "settled", "arms": halves("levers.calm.times", 0.9)},
        },
        "exploration": {"uniform": 0.05, "challenger": 0.05},
    }


# --- Users ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visit:
    """One user asking once."""

    request: Request
    facts: Facts


def visits(count: int, offers: int, surface: str = SURFACE, seed: int = 11) -> Iterator[Visit]:
    """Users who differ, each with about 10 events behind them."""
    random = Random(seed)
    for number in range(count):
        request = Request(
            f"decision-{number}", f"{random.getrandbits(128):032x}", surface, NOW + number, _context(random)
        )
        as_of = NOW + number - random.uniform(0, 30 * 3600)
        budgets = {"winter": random.randrange(1_500_000), "spring": random.randrange(30_000)}
        yield Visit(request, Facts(_features(random), as_of, _history(random, offers, request.now), budgets))


def _context(random: Random) -> dict[str, Value]:
    return {
        "device": random.choices(DEVICES, [60, 20, 10, 4, 3, 3])[0],
        "app_version": random.choice(["8.9.12", "8.8.0", "8.4.2", "9.0.1"]),
        "timezone": random.choice(["Europe/Stockholm", "America/New_York", "Asia/Kolkata"]),
        "locale": random.choice(["sv-SE", "en-GB", "pt-BR"]),
    }


def _features(random: Random) -> dict[str, Value]:
    found: dict[str, Value] = {
        "tier": random.choices(["free", "basic", "premium"], [66, 16, 18])[0],
        "market": random.choices(MARKETS, [22, 18, 22, 6, 6, 5, 5, 6, 5, 5])[0],
        "age_band": random.choices(AGES, [5, 25, 35, 25, 10])[0],
        "is_student": random.random() < 0.2,
        "had_trial": random.random() < 0.15,
        "payment_failed": random.random() < 0.03,
        "consent_marketing": random.random() < 0.8,
        "owned_addons": frozenset(name for name in ADDONS if random.random() < 0.06),
        "days_on_tier": int(random.expovariate(1 / 300)) + 5,
        "sessions_7d": int(random.gammavariate(2, 4)),
        "sessions_28d": int(random.gammavariate(2, 14)),
        "minutes_7d": random.gammavariate(2, 90),
        "skips_limited_7d": int(random.expovariate(1 / 4)),
        "ads_heard_7d": int(random.gammavariate(2, 14)),
        "followed_artists": int(random.gammavariate(2, 9)),
        **{name: random.random() for name in SIGNALS},
    }
    if random.random() < 0.05:  # some things are not known of everybody
        del found[random.choice(["is_student", "had_trial", "age_band", "days_on_tier"])]
    return found


def _history(random: Random, offers: int, now: float) -> tuple[HistoryEvent, ...]:
    kinds = ["impression"] * random.randint(5, 9) + ["click"] * random.randint(0, 2)
    kinds += random.choices(["dismiss", "convert", "impression"], [2, 1, 3], k=2)
    favourites = random.sample(range(offers), 5)
    return tuple(
        HistoryEvent(kind, f"offer_{random.choice(favourites):04d}", SURFACE, now - random.uniform(0, 30) * DAY)
        for kind in kinds
    )


class Precomputed:
    """A scorer that costs nothing: its answers are lists made before."""

    label = "upsell/1"

    def __init__(self, offers: int, seed: int = 5) -> None:
        random = Random(seed)
        row = [random.uniform(0.001, 0.05) for _ in range(offers)]
        self._rows = [Scores(row[:length], row[:length]) for length in range(offers + 1)]

    def score(self, features: object, surface: str, offers: Sequence[str]) -> Scores:
        return self._rows[len(offers)]

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self._rows[len(offers)]
