"""What is known about a listener: each feature declared once, for training and serving alike.

Two tables are the source. `users`: `user_id`, `signup_at`, `born_at`, `market`. `events`: `user_id`, `at`, `type`,
`item`, `amount`, `hour` (of the listener's own clock). What changes slowly (tier, consent, student status) comes from
events too, so that every value can be told as of any moment.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ibis.expr.types as ir

from decisioning.catalog import DAY, FeatureSpec, FeatureType
from decisioning.domain import Value
from features import portable as p
from features.schema import Schema

TIERS = ("free", "basic", "premium")
MARKETS = ("SE", "GB", "US", "BR", "IN", "ID", "NO")
AGE_BANDS = ("u18", "18_24", "25_34", "35_49", "50_plus")
AGE_STARTS = (18, 25, 35, 50)
ADDONS = ("audiobooks", "hifi")
YEAR_SECONDS = 31_556_952


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what it is called, whose it is, what it means, and how it is computed."""

    spec: FeatureSpec
    owner: str
    meaning: str
    of_events: Callable[[ir.Table], ir.Value] | None = None
    """An aggregate over the events seen before the observation (`portable` says which columns there are)."""
    of_user: Callable[[ir.Table], ir.Value] | None = None
    """Or a column over the observation with its user: `as_of`, `signup_at`, `born_at`, `market`."""
    when_no_events: Value = None
    """The value of a known user of whom no event was seen: a count is 0 then, a state unknown."""

    @property
    def name(self) -> str:
        return self.spec.name


def _count(name: str, unit: str, owner: str, meaning: str, of: Callable[[ir.Table], ir.Value], **spec) -> Feature:
    """A whole number that is 0 for whoever did nothing."""
    return Feature(FeatureSpec(name, FeatureType.INT, default=0, unit=unit, **spec), owner, meaning, of, None, 0)


def _minutes(name: str, owner: str, meaning: str, of: Callable[[ir.Table], ir.Value]) -> Feature:
    return Feature(FeatureSpec(name, FeatureType.FLOAT, default=0.0, unit="minutes"), owner, meaning, of, None, 0.0)


def _flag(
    name: str, owner: str, meaning: str, of: Callable[[ir.Table], ir.Value], empty: bool | None, **spec
) -> Feature:
    return Feature(FeatureSpec(name, FeatureType.BOOL, **spec), owner, meaning, of, None, empty)


FEATURES: tuple[Feature, ...] = (
    Feature(
        FeatureSpec("tier", FeatureType.ENUM, TIERS),
        "growth",
        "the plan that the user is on",
        of_events=lambda seen: p.last_item(seen, "tier_change"),
    ),
    Feature(
        FeatureSpec("market", FeatureType.ENUM, MARKETS),
        "growth",
        "the country that the account is billed in",
        of_user=lambda user: user.market,
    ),
    Feature(
        FeatureSpec("age_band", FeatureType.ENUM, AGE_BANDS),
        "insights",
        "how old the user is, in bands",
        of_user=lambda user: p.band(
            (p.seconds(user.as_of) - p.seconds(user.born_at)) // YEAR_SECONDS, AGE_BANDS, AGE_STARTS
        ),
    ),
    _flag("is_student", "growth", "verified as a student", lambda seen: p.last_item(seen, "student") == "yes", False),
    Feature(
        FeatureSpec("days_on_tier", FeatureType.INT, unit="days"),
        "growth",
        "whole days since the plan last changed",
        of_events=lambda seen: p.seconds_since_last(seen, "tier_change") // p.DAY_SECONDS,
    ),
    Feature(
        FeatureSpec("days_since_signup", FeatureType.INT, unit="days"),
        "growth",
        "whole days since the account was made",
        of_user=lambda user: (p.seconds(user.as_of) - p.seconds(user.signup_at)) // p.DAY_SECONDS,
    ),
    _count(
        "sessions_7d",
        "sessions",
        "insights",
        "listening sessions in the last 7 days",
        lambda seen: p.count(seen, "session", 7),
        max_age=1.5 * DAY,
    ),
    _count(
        "sessions_28d",
        "sessions",
        "insights",
        "listening sessions in the last 28 days",
        lambda seen: p.count(seen, "session", 28),
    ),
    _minutes(
        "minutes_7d",
        "insights",
        "minutes listened in the last 7 days",
        lambda seen: p.amount(seen, "session", 7),
    ),
    _minutes(
        "minutes_28d",
        "insights",
        "minutes listened in the last 28 days",
        lambda seen: p.amount(seen, "session", 28),
    ),
    _count(
        "skips_limited_7d",
        "skips",
        "growth",
        "skips refused by the free plan's limit in the last 7 days",
        lambda seen: p.count(seen, "skip_limit", 7),
    ),
    _count(
        "ads_heard_7d",
        "ads",
        "growth",
        "advertisements heard in the last 7 days",
        lambda seen: p.amount(seen, "ads", 7),
    ),
    _count(
        "active_days_28d",
        "days",
        "insights",
        "days with a session among the last 28",
        lambda seen: p.active_days(seen, "session", 28),
    ),
    Feature(
        FeatureSpec("days_since_last_session", FeatureType.FLOAT, unit="days"),
        "insights",
        "days since the last session began",
        of_events=lambda seen: p.days_since_last(seen, "session"),
    ),
    _count(
        "distinct_artists_28d",
        "artists",
        "insights",
        "different artists played in the last 28 days",
        lambda seen: p.distinct_items(seen, "play", 28),
    ),
    _count(
        "followed_artists",
        "artists",
        "artists",
        "artists followed now",
        lambda seen: p.count(seen, "follow") - p.count(seen, "unfollow"),
    ),
    _count(
        "followed_artists_on_tour",
        "artists",
        "artists",
        "followed artists who announced a tour nearby in the last 90 days",
        lambda seen: p.distinct_items(seen, "tour_nearby", 90),
    ),
    _count(
        "merch_clicks_28d",
        "clicks",
        "merch",
        "clicks on merchandise in the last 28 days",
        lambda seen: p.count(seen, "merch_click", 28),
    ),
    _count(
        "merch_purchases",
        "purchases",
        "merch",
        "merchandise ever bought",
        lambda seen: p.count(seen, "merch_purchase"),
    ),
    _count(
        "family_plan_signals_28d",
        "signals",
        "growth",
        "signs of a shared account in the last 28 days, such as two streams at once",
        lambda seen: p.count(seen, "family_signal", 28),
    ),
    _minutes(
        "audiobook_minutes_28d",
        "audiobooks",
        "minutes of audiobooks, previews included, in the last 28 days",
        lambda seen: p.amount(seen, "audiobook", 28),
    ),
    _flag(
        "hifi_device",
        "growth",
        "ever listened on a device that can play lossless sound",
        lambda seen: p.ever(seen, "session", "hifi"),
        None,
    ),
    Feature(
        FeatureSpec("night_share_28d", FeatureType.FLOAT),
        "insights",
        "the part of the last 28 days' minutes that began between 22:00 and 05:00, local time",
        of_events=lambda seen: p.share(
            p.total(p.thousandths(seen), p.is_event(seen, "session", 28) & ((seen.hour >= 22) | (seen.hour < 5))),
            p.total(p.thousandths(seen), p.is_event(seen, "session", 28)),
        ),
    ),
    Feature(
        FeatureSpec("owned_addons", FeatureType.SET, ADDONS),
        "growth",
        "add-ons owned now",
        of_events=lambda seen: p.bits(*(p.last_item(seen, f"addon_{name}") == "on" for name in ADDONS)),
        when_no_events=0,
    ),
    _flag("had_trial", "growth", "ever had a trial", lambda seen: p.ever(seen, "trial_start"), False),
    _flag(
        "past_premium",
        "growth",
        "was on premium once, and is not now",
        lambda seen: p.ever(seen, "tier_change", "premium") & (p.last_item(seen, "tier_change") != "premium"),
        False,
    ),
    _count(
        "offers_seen_7d",
        "impressions",
        "growth",
        "offers shown to the user in the last 7 days",
        lambda seen: p.count(seen, "impression", 7),
    ),
    _count(
        "offers_dismissed_28d",
        "dismissals",
        "growth",
        "offers dismissed in the last 28 days",
        lambda seen: p.count(seen, "dismiss", 28),
    ),
    _flag(
        "payment_failed",
        "payments",
        "the last payment failed",
        lambda seen: (p.last_item(seen, "payment") == "failed").fill_null(False),
        False,
        blocks_if_missing=True,
    ),
    _flag(
        "consent_marketing",
        "privacy",
        "agreed to marketing; missing for whoever was never asked",
        lambda seen: p.last_item(seen, "consent") == "yes",
        None,
        blocks_if_missing=True,
    ),
)

SCHEMA = Schema(tuple(feature.spec for feature in FEATURES))
