"""How they listen: how much, how often, when, on what, and what gets in the way."""

from decisioning.catalog import FeatureSpec, FeatureType
from features import portable as p
from features.feature import (
    AFTER_A_MONTH,
    AFTER_A_WEEK,
    AFTER_DAYS,
    AFTER_ONE_MISSED_BUILD,
    Feature,
    count,
    days_since,
    flag,
    minutes,
    ratio,
)

NIGHT_BEGINS, NIGHT_ENDS = 22, 5
"""Hours of the listener's own clock."""

LISTENING: tuple[Feature, ...] = (
    count(
        "sessions_7d",
        "sessions",
        "insights",
        "listening sessions in the last 7 days",
        lambda seen: p.count(seen, "session", 7),
        AFTER_ONE_MISSED_BUILD,
    ),
    count(
        "sessions_28d",
        "sessions",
        "insights",
        "listening sessions in the last 28 days",
        lambda seen: p.count(seen, "session", 28),
        AFTER_DAYS,
    ),
    minutes(
        "minutes_7d",
        "insights",
        "minutes listened in the last 7 days",
        lambda seen: p.amount(seen, "session", 7),
        AFTER_ONE_MISSED_BUILD,
    ),
    minutes(
        "minutes_28d",
        "insights",
        "minutes listened in the last 28 days",
        lambda seen: p.amount(seen, "session", 28),
        AFTER_DAYS,
    ),
    minutes(
        "minutes_90d",
        "insights",
        "minutes listened in the last 90 days",
        lambda seen: p.amount(seen, "session", 90),
        AFTER_A_WEEK,
    ),
    ratio(
        "minutes_trend",
        "times",
        "insights",
        "the last 7 days' listening, as multiples of a usual week of the last 28 days (1: as ever; 4: all of it new)",
        lambda seen: p.share(p.amount(seen, "session", 7), p.amount(seen, "session", 28)) * 4.0,
        AFTER_ONE_MISSED_BUILD,
    ),
    count(
        "active_days_28d",
        "days",
        "insights",
        "days with a session among the last 28",
        lambda seen: p.active_days(seen, "session", 28),
        AFTER_DAYS,
    ),
    days_since(
        "days_since_last_session",
        "insights",
        "days since the last session began",
        lambda seen: p.days_since_last(seen, "session"),
        AFTER_ONE_MISSED_BUILD,
    ),
    Feature(
        FeatureSpec("night_share_28d", FeatureType.FLOAT, max_age=AFTER_DAYS),
        "insights",
        "the part of the last 28 days' minutes that began between 22:00 and 05:00, local time",
        of_events=lambda seen: p.share(
            p.total(
                p.thousandths(seen),
                p.is_event(seen, "session", 28) & ((seen.hour >= NIGHT_BEGINS) | (seen.hour < NIGHT_ENDS)),
            ),
            p.total(p.thousandths(seen), p.is_event(seen, "session", 28)),
        ),
    ),
    count(
        "devices_28d",
        "devices",
        "insights",
        "different kinds of device listened on in the last 28 days",
        lambda seen: p.distinct_items(seen, "session", 28),
        AFTER_DAYS,
    ),
    flag(
        "hifi_device",
        "growth",
        "ever listened on a device that can play lossless sound",
        lambda seen: p.ever(seen, "session", "hifi"),
        AFTER_A_MONTH,
        empty=None,
    ),
    minutes(
        "audiobook_minutes_28d",
        "audiobooks",
        "minutes of audiobooks, previews included, in the last 28 days",
        lambda seen: p.amount(seen, "audiobook", 28),
        AFTER_DAYS,
    ),
    ratio(
        "audiobook_share_28d",
        "",
        "audiobooks",
        "the part of the last 28 days' minutes that was audiobooks",
        lambda seen: p.share(
            p.amount(seen, "audiobook", 28), p.amount(seen, "audiobook", 28) + p.amount(seen, "session", 28)
        ),
        AFTER_DAYS,
    ),
    count(
        "family_plan_signals_28d",
        "signals",
        "growth",
        "signs of a shared account in the last 28 days, such as two streams at once",
        lambda seen: p.count(seen, "family_signal", 28),
        AFTER_DAYS,
    ),
)

FRICTION: tuple[Feature, ...] = (
    count(
        "skips_limited_7d",
        "skips",
        "growth",
        "skips refused by the free plan's limit in the last 7 days",
        lambda seen: p.count(seen, "skip_limit", 7),
        AFTER_ONE_MISSED_BUILD,
    ),
    ratio(
        "skips_limited_per_session_28d",
        "skips",
        "growth",
        "skips refused for each session of the last 28 days",
        lambda seen: p.share(p.count(seen, "skip_limit", 28), p.count(seen, "session", 28)),
        AFTER_DAYS,
    ),
    count(
        "ads_heard_7d",
        "ads",
        "growth",
        "advertisements heard in the last 7 days",
        lambda seen: p.whole_amount(seen, "ads", 7),
        AFTER_ONE_MISSED_BUILD,
    ),
    ratio(
        "ads_per_hour_28d",
        "ads",
        "growth",
        "advertisements heard for each hour listened in the last 28 days",
        lambda seen: p.share(p.amount(seen, "ads", 28), p.amount(seen, "session", 28)) * 60.0,
        AFTER_DAYS,
    ),
)
