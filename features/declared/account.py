"""Who it is: plan, market, age, add-ons, consent, and whether the payments go through."""

from decisioning.catalog import FeatureSpec, FeatureType
from features import portable as p
from features.feature import (
    AFTER_A_MONTH,
    AFTER_A_WEEK,
    AFTER_DAYS,
    Feature,
    count,
    days_since,
    flag,
)

TIERS = ("free", "basic", "premium")
MARKETS = ("SE", "GB", "US", "BR", "IN", "ID", "NO")
AGE_BANDS = ("u18", "18_24", "25_34", "35_49", "50_plus")
AGE_STARTS = (18, 25, 35, 50)
ADDONS = ("audiobooks", "hifi")
# What comes later counts where two were said at the same moment: the careful answer.
SWITCH = ("on", "off")
PAID = ("ok", "failed")
CONSENT = ("yes", "no")
STUDENT = ("yes", "no")
YEAR_SECONDS = 31_556_952

WHO: tuple[Feature, ...] = (
    Feature(
        FeatureSpec("tier", FeatureType.ENUM, TIERS, max_age=AFTER_DAYS),
        "growth",
        "the plan that the user is on",
        of_events=lambda seen: p.state(seen, "tier_change", TIERS),
    ),
    Feature(
        FeatureSpec("market", FeatureType.ENUM, MARKETS, max_age=AFTER_A_MONTH),
        "growth",
        "the country that the account is billed in",
        of_user=lambda user: user.market,
    ),
    Feature(
        FeatureSpec("age_band", FeatureType.ENUM, AGE_BANDS, max_age=AFTER_A_MONTH),
        "insights",
        "how old the user is, in bands",
        of_user=lambda user: p.band(
            (p.seconds(user.as_of) - p.seconds(user.born_at)) // YEAR_SECONDS, AGE_BANDS, AGE_STARTS
        ),
    ),
    flag(
        "is_student",
        "growth",
        "verified as a student",
        lambda seen: p.state(seen, "student", STUDENT) == "yes",
        AFTER_A_MONTH,
        empty=False,
    ),
    Feature(
        FeatureSpec("days_on_tier", FeatureType.INT, max_age=AFTER_A_WEEK, unit="days"),
        "growth",
        "whole days since the plan last changed",
        of_events=lambda seen: p.seconds_since_last(seen, "tier_change") // p.DAY_SECONDS,
    ),
    count(
        "plan_changes_90d",
        "changes",
        "growth",
        "how often the plan changed in the last 90 days, the first choice included",
        lambda seen: p.count(seen, "tier_change", 90),
        AFTER_A_WEEK,
    ),
    Feature(
        FeatureSpec("days_since_signup", FeatureType.INT, max_age=AFTER_A_WEEK, unit="days"),
        "growth",
        "whole days since the account was made",
        of_user=lambda user: (p.seconds(user.as_of) - p.seconds(user.signup_at)) // p.DAY_SECONDS,
    ),
    flag(
        "had_trial",
        "growth",
        "ever had a trial",
        lambda seen: p.ever(seen, "trial_start"),
        AFTER_DAYS,
        empty=False,
    ),
    flag(
        "past_premium",
        "growth",
        "was on premium once, and is not now",
        lambda seen: (
            p.ever(seen, "tier_change", "premium")
            & ~(p.state(seen, "tier_change", TIERS) == "premium").fill_null(False)
        ),
        AFTER_DAYS,
        empty=False,
    ),
    Feature(
        FeatureSpec("owned_addons", FeatureType.SET, ADDONS, max_age=AFTER_DAYS),
        "growth",
        "add-ons owned now",
        of_events=lambda seen: p.bits(*(p.state(seen, f"addon_{name}", SWITCH) == "on" for name in ADDONS)),
        when_no_events=0,
    ),
    flag(
        "consent_marketing",
        "privacy",
        "agreed to marketing; missing for whoever was never asked",
        lambda seen: p.state(seen, "consent", CONSENT) == "yes",
        AFTER_DAYS,
        empty=None,
        blocks=True,
    ),
)

PAYING: tuple[Feature, ...] = (
    flag(
        "payment_failed",
        "payments",
        "the last payment failed",
        lambda seen: (p.state(seen, "payment", PAID) == "failed").fill_null(False),
        AFTER_DAYS,
        empty=False,
        blocks=True,
    ),
    count(
        "payments_failed_90d",
        "payments",
        "payments",
        "payments that failed in the last 90 days",
        lambda seen: p.count(seen, "payment", 90, "failed"),
        AFTER_DAYS,
    ),
    days_since(
        "days_since_last_payment",
        "payments",
        "days since a payment last went through",
        lambda seen: p.days_since_last(seen, "payment", "ok"),
        AFTER_DAYS,
    ),
)
