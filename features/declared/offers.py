"""How they take our offers: seen, clicked, accepted, dismissed."""

from features import portable as p
from features.feature import AFTER_A_WEEK, AFTER_DAYS, AFTER_ONE_MISSED_BUILD, Feature, count, days_since, ratio

OFFERS: tuple[Feature, ...] = (
    count(
        "offers_seen_7d",
        "impressions",
        "growth",
        "offers shown to the user in the last 7 days",
        lambda seen: p.count(seen, "impression", 7),
        AFTER_ONE_MISSED_BUILD,
        counts="impression",
    ),
    count(
        "offers_seen_28d",
        "impressions",
        "growth",
        "offers shown to the user in the last 28 days",
        lambda seen: p.count(seen, "impression", 28),
        AFTER_DAYS,
    ),
    days_since(
        "days_since_last_offer",
        "growth",
        "days since an offer was last shown",
        lambda seen: p.days_since_last(seen, "impression"),
        AFTER_ONE_MISSED_BUILD,
    ),
    count(
        "offers_clicked_28d",
        "clicks",
        "growth",
        "clicks on offers in the last 28 days",
        lambda seen: p.count(seen, "click", 28),
        AFTER_DAYS,
    ),
    count(
        "offers_accepted_90d",
        "conversions",
        "growth",
        "offers taken in the last 90 days",
        lambda seen: p.count(seen, "convert", 90),
        AFTER_A_WEEK,
    ),
    ratio(
        "offer_acceptance_90d",
        "",
        "growth",
        "offers taken for each that was shown in the last 90 days",
        lambda seen: p.share(p.count(seen, "convert", 90), p.count(seen, "impression", 90)),
        AFTER_A_WEEK,
    ),
    count(
        "offers_dismissed_28d",
        "dismissals",
        "growth",
        "offers dismissed in the last 28 days",
        lambda seen: p.count(seen, "dismiss", 28),
        AFTER_DAYS,
        counts="dismiss",
    ),
)
