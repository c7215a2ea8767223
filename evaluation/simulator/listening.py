"""What the simulated listeners do all day, whatever offers they get: the events that features are made of.

Every batch of events is an Arrow table of the columns `user_id`, `at`, `type`, `item`, `amount`, `hour`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluation.simulator.world import ZONES, Population, sigmoid
from features.declared.account import TIERS

DAY = 86_400
EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("type", pa.string()),
        ("item", pa.string()),
        ("amount", pa.float64()),
        ("hour", pa.int64()),
    ]
)
DEVICES = ("phone", "phone", "desktop", "speaker", "tv", "car")


@dataclass(frozen=True)
class Sessions:
    """One day's sessions. Arrays of one length, in order of time."""

    user: np.ndarray
    """Index into the population."""
    at: np.ndarray
    """Epoch seconds."""
    hour: np.ndarray
    """Of the listener's own clock."""
    device: np.ndarray
    minutes: np.ndarray


def batch(
    people: Population,
    user: np.ndarray,
    at: np.ndarray,
    type: str,
    item: np.ndarray | str | None = None,
    amount: np.ndarray | None = None,
    hour: np.ndarray | None = None,
) -> pa.Table:
    """Events of one type: `user` are indices, `at` epoch seconds."""
    rows = len(user)
    items = pa.array(item, pa.string()) if isinstance(item, np.ndarray) else pa.array([item] * rows, pa.string())
    return pa.table(
        [
            pa.array(people.ids[user], pa.string()),
            pa.array((np.asarray(at) * 1e6).astype("datetime64[us]"), EVENTS.field("at").type),
            pa.array([type] * rows, pa.string()),
            items,
            pa.nulls(rows, pa.float64()) if amount is None else pa.array(amount, pa.float64()),
            pa.nulls(rows, pa.int64()) if hour is None else pa.array(hour, pa.int64()),
        ],
        schema=EVENTS,
    )


def sessions_of_day(rng: np.random.Generator, people: Population, start: float) -> Sessions:
    """Who listens when: more at weekends, night owls at night."""
    weekend = 1.25 if int(start // DAY + 4) % 7 in (0, 6) else 1.0
    user = np.repeat(np.arange(len(people)), rng.poisson(people.pace * weekend))
    rows = len(user)
    night = rng.random(rows) < people.night_owl[user]
    hour = np.where(night, (22 + rng.integers(0, 7, rows)) % 24, rng.integers(6, 22, rows))
    ahead = {name: zone[1] for name, zone in ZONES.items()}
    utc_hour = (hour - np.array([ahead[name] for name in people.market])[user]) % 24
    at = start + utc_hour * 3600 + rng.integers(0, 3600, rows)
    hifi = people.hifi_device[user] & (rng.random(rows) < 0.3)
    device = np.where(hifi, "hifi", rng.choice(DEVICES, rows))
    order = np.argsort(at, kind="stable")
    minutes = rng.gamma(2.0, 14.0, rows).round(1) + 0.5
    return Sessions(user[order], at[order], hour[order], device[order], minutes[order])


def events_of_day(rng: np.random.Generator, people: Population, start: float, day: Sessions) -> list[pa.Table]:
    """The sessions, and what goes with listening: artists, advertisements, skips, signs of taste."""
    rows = len(day.user)

    def some(chance: np.ndarray | float) -> np.ndarray:
        """The sessions in which something happens, by its chance."""
        return np.flatnonzero(rng.random(rows) < chance)

    def within(rows: np.ndarray) -> np.ndarray:
        """A moment soon after the session began, on the same day."""
        return np.minimum(day.at[rows] + rng.integers(1, 900, len(rows)), start + DAY - 1)

    def happened(chosen: np.ndarray, type: str, item: np.ndarray | None = None, amount=None) -> pa.Table:
        return batch(people, day.user[chosen], within(chosen), type, item, amount)

    free = people.tier[day.user] == 0
    tastes = {name: people.taste(name)[day.user] for name in ("frustration", "live", "books", "household")}
    played, heard = some(0.7), some(0.7 * free)
    artist = (day.user[played] * 7 + rng.integers(0, 4 + people.follows[day.user[played]])) % 900
    skipped = some(free * sigmoid(-1.0 + 1.8 * tastes["frustration"]))
    listened = some(0.10 * np.exp(1.4 * tastes["books"]).clip(0, 9))
    clicked = some(0.06 * np.exp(1.4 * tastes["live"]).clip(0, 12))
    toured = some(np.where(people.follows[day.user] > 0, 0.01 * np.exp(0.7 * tastes["live"]), 0.0))
    return [
        batch(people, day.user, day.at, "session", day.device, day.minutes, day.hour),
        happened(played, "play", np.char.add("artist", artist.astype(str))),
        happened(heard, "ads", None, 1.0 + rng.poisson(4.0, len(heard))),
        happened(skipped, "skip_limit"),
        happened(listened, "audiobook", None, rng.gamma(2.0, 10.0, len(listened)).round(1)),
        happened(clicked, "merch_click"),
        happened(toured, "tour_nearby", np.char.add("artist", rng.integers(0, 900, len(toured)).astype(str))),
        happened(some(0.06 * np.exp(1.4 * tastes["household"]).clip(0, 12)), "family_signal"),
    ]


def events_before(rng: np.random.Generator, people: Population, start: float) -> list[pa.Table]:
    """What happened from sign-up to the first day that shapes states: plans, consent, add-ons, payments, follows."""
    everyone = np.arange(len(people))
    signup = start - people.signup_days * DAY

    def between(who: np.ndarray, low: float = 0.1, high: float = 0.9) -> np.ndarray:
        """A moment between a user's sign-up and the start, in shares of that time."""
        return signup[who] + rng.uniform(low, high, len(who)) * people.signup_days[who] * DAY

    def chosen(chance: np.ndarray | float) -> np.ndarray:
        return np.flatnonzero(rng.random(len(people)) < chance)

    paying = np.flatnonzero(people.tier > 0)
    lapsed = chosen((people.tier < 2) * sigmoid(-1.6 + 0.7 * people.taste("frustration")))
    tried = chosen(0.25 + 0.2 * (people.tier == 2))
    asked = chosen(0.97)
    students = chosen(0.4 * (people.age_days < 27 * 365) + 0.04 * (people.age_days < 35 * 365))
    tables = [
        batch(people, everyone, signup + 1, "tier_change", "free"),
        batch(people, lapsed, between(lapsed, 0.1, 0.3), "tier_change", "premium"),
        batch(people, lapsed, between(lapsed, 0.35, 0.6), "tier_change", "free"),
        batch(people, paying, between(paying, 0.65, 0.99), "tier_change", np.array(TIERS)[people.tier[paying]]),
        batch(people, tried, between(tried, 0.05, 0.3), "trial_start"),
        batch(people, asked, signup[asked] + 2, "consent", np.where(rng.random(len(asked)) < 0.82, "yes", "no")),
        batch(people, students, between(students), "student", "yes"),
        batch(people, paying, start - rng.uniform(1, 30, len(paying)) * DAY, "payment", _paid(rng, len(paying))),
    ]
    for addon, taste in (("hifi", "sound"), ("audiobooks", "books")):
        owners = chosen((people.tier > 0) * sigmoid(-2.6 + people.taste(taste)))
        tables.append(batch(people, owners, between(owners, 0.7, 0.95), f"addon_{addon}", "on"))
    fans = np.repeat(everyone, people.follows)
    artists = np.char.add("artist", ((fans * 7 + rng.integers(0, 900, len(fans))) % 900).astype(str))
    tables.append(batch(people, fans, between(fans), "follow", artists))
    buyers = np.repeat(everyone, rng.poisson(0.15 * np.exp(0.8 * people.taste("live")).clip(0, 10)))
    tables.append(batch(people, buyers, between(buyers), "merch_purchase"))
    return tables


def _paid(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.where(rng.random(rows) < 0.04, "failed", "ok")
