"""Whose music it is: artists played and followed, tours, and what is bought at the stand."""

from features import portable as p
from features.feature import AFTER_A_WEEK, AFTER_DAYS, Feature, count, days_since, ratio

FANDOM: tuple[Feature, ...] = (
    count(
        "distinct_artists_28d",
        "artists",
        "artists",
        "different artists played in the last 28 days",
        lambda seen: p.distinct_items(seen, "play", 28),
        AFTER_DAYS,
    ),
    ratio(
        "artist_variety_28d",
        "",
        "artists",
        "different artists for each play of the last 28 days: 1 where no artist was played twice",
        lambda seen: p.share(p.distinct_items(seen, "play", 28), p.count(seen, "play", 28)),
        AFTER_DAYS,
    ),
    count(
        "followed_artists",
        "artists",
        "artists",
        "artists followed now",
        lambda seen: p.at_least_none(p.count(seen, "follow") - p.count(seen, "unfollow")),
        AFTER_A_WEEK,
    ),
    days_since(
        "days_since_last_follow",
        "artists",
        "days since an artist was last followed",
        lambda seen: p.days_since_last(seen, "follow"),
        AFTER_A_WEEK,
    ),
    count(
        "followed_artists_on_tour",
        "artists",
        "artists",
        "followed artists who announced a tour nearby in the last 90 days",
        lambda seen: p.distinct_items(seen, "tour_nearby", 90),
        AFTER_A_WEEK,
    ),
    count(
        "merch_clicks_28d",
        "clicks",
        "merch",
        "clicks on merchandise in the last 28 days",
        lambda seen: p.count(seen, "merch_click", 28),
        AFTER_DAYS,
    ),
    count(
        "merch_purchases",
        "purchases",
        "merch",
        "merchandise ever bought",
        lambda seen: p.count(seen, "merch_purchase"),
        AFTER_A_WEEK,
    ),
)
