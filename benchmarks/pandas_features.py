"""The features that a snapshot holds, written in pandas: what Segue's snapshots are measured against.

Written as one would who knows pandas: texts are read as categories, users are numbers, events are split by type once,
and every feature is a vectorised groupby over the rows that matter to it. Same definitions, same answers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

DAY = 86_400
YEAR = 31_556_952
AGES, AGE_BANDS = [-np.inf, 18, 25, 35, 50, np.inf], ["u18", "18_24", "25_34", "35_49", "50_plus"]


class Past:
    """What happened before a moment, by type; a user is a number from 0 to `users` - 1."""

    def __init__(self, file: Path, ids: pd.Index, moment: pd.Timestamp) -> None:
        texts = ["user_id", "type", "item"]
        events = pq.read_table(file, read_dictionary=texts).to_pandas()
        events = events[events["at"] < moment]
        numbers = ids.get_indexer(events["user_id"].cat.categories)
        user = numbers[events["user_id"].cat.codes.to_numpy()]
        events = events.drop(columns="user_id").assign(user=user, age=int(moment.timestamp()) - _seconds(events["at"]))
        events = events[events["user"] >= 0]
        self.users = len(ids)
        self.seen = np.isin(np.arange(self.users), events["user"].unique())
        self._by_type = dict(iter(events.groupby("type", observed=True)))
        self._none = events.iloc[:0]

    def of(self, type: str, days: int | None = None) -> pd.DataFrame:
        rows = self._by_type.get(type, self._none)
        return rows if days is None else rows[rows["age"] <= days * DAY]

    def count(self, type: str, days: int | None = None, item: str | None = None) -> pd.Series:
        rows = self.of(type, days)
        rows = rows if item is None else rows[rows["item"] == item]
        return self._all(rows.groupby("user", sort=False).size())

    def thousandths(self, rows: pd.DataFrame) -> pd.Series:
        amounts = (rows["amount"].fillna(0.0) * 1000.0).round().astype("int64")
        return self._all(amounts.groupby(rows["user"], sort=False).sum())

    def amount(self, type: str, days: int) -> pd.Series:
        return self.thousandths(self.of(type, days)) / 1000.0

    def distinct(self, type: str, days: int, column: str = "item") -> pd.Series:
        different = self.of(type, days)[["user", column]].drop_duplicates()
        return self._all(different.groupby("user", sort=False).size())

    def active_days(self, type: str, days: int) -> pd.Series:
        rows = self.of(type, days)
        rows = rows[rows["age"] < days * DAY]  # a span more would begin at the window's edge
        different = pd.DataFrame({"user": rows["user"], "day": rows["age"] // DAY}).drop_duplicates()
        return self._all(different.groupby("user", sort=False).size())

    def state(self, type: str) -> pd.Series:
        """The item of the latest event, missing where there is none."""
        latest = self.of(type).sort_values("at").drop_duplicates("user", keep="last")
        return latest.set_index("user")["item"].astype("string").reindex(range(self.users))

    def seconds_since(self, type: str, item: str | None = None) -> pd.Series:
        rows = self.of(type)
        rows = rows if item is None else rows[rows["item"] == item]
        return rows.groupby("user", sort=False)["age"].min().reindex(range(self.users))

    def _all(self, found: pd.Series) -> pd.Series:
        return found.reindex(range(self.users), fill_value=0)


def features(users: pd.DataFrame, past: Past, moment: pd.Timestamp) -> pd.DataFrame:
    """One row a user, in their order."""
    now = int(moment.timestamp())
    age = (now - _seconds(users["born_at"])) // YEAR
    sessions, night = past.of("session", 28), past.of("session", 28)
    night = night[(night["hour"] >= 22) | (night["hour"] < 5)]
    minutes_28d, sessions_28d = past.amount("session", 28), past.count("session", 28)
    tier, audiobooks = past.state("tier_change"), past.amount("audiobook", 28)
    artists, plays = past.distinct("play", 28), past.count("play", 28)
    accepted, seen_90d = past.count("convert", 90), past.count("impression", 90)
    seen = pd.Series(past.seen)
    return pd.DataFrame(
        {
            "user_id": users["user_id"],
            "tier": tier,
            "market": users["market"],
            "age_band": pd.cut(age, AGES, right=False, labels=AGE_BANDS).astype("string"),
            "is_student": (past.state("student") == "yes").fillna(False),
            "days_on_tier": (past.seconds_since("tier_change") // DAY).astype("Int64"),
            "plan_changes_90d": past.count("tier_change", 90),
            "days_since_signup": (now - _seconds(users["signup_at"])) // DAY,
            "had_trial": past.count("trial_start") > 0,
            "past_premium": (past.count("tier_change", item="premium") > 0) & (tier != "premium").fillna(False),
            "consent_marketing": past.state("consent") == "yes",
            "payment_failed": (past.state("payment") == "failed").fillna(False),
            "payments_failed_90d": past.count("payment", 90, "failed"),
            "days_since_last_payment": past.seconds_since("payment", "ok") / DAY,
            "sessions_7d": past.count("session", 7),
            "sessions_28d": sessions_28d,
            "minutes_7d": past.amount("session", 7),
            "minutes_28d": minutes_28d,
            "minutes_90d": past.amount("session", 90),
            "minutes_trend": _share(past.amount("session", 7), minutes_28d) * 4.0,
            "active_days_28d": past.active_days("session", 28),
            "days_since_last_session": past.seconds_since("session") / DAY,
            "night_share_28d": _share(past.thousandths(night), past.thousandths(sessions)),
            "devices_28d": past.distinct("session", 28),
            "hifi_device": (past.count("session", item="hifi") > 0).astype("boolean").where(seen),
            "audiobook_minutes_28d": audiobooks,
            "audiobook_share_28d": _share(audiobooks, audiobooks + minutes_28d),
            "family_plan_signals_28d": past.count("family_signal", 28),
            "skips_limited_7d": past.count("skip_limit", 7),
            "skips_limited_per_session_28d": _share(past.count("skip_limit", 28), sessions_28d),
            "ads_heard_7d": past.thousandths(past.of("ads", 7)) // 1000,
            "ads_per_hour_28d": _share(past.amount("ads", 28), minutes_28d) * 60.0,
            "distinct_artists_28d": artists,
            "artist_variety_28d": _share(artists, plays),
            "followed_artists": (past.count("follow") - past.count("unfollow")).clip(lower=0),
            "days_since_last_follow": past.seconds_since("follow") / DAY,
            "followed_artists_on_tour": past.distinct("tour_nearby", 90),
            "merch_clicks_28d": past.count("merch_click", 28),
            "merch_purchases": past.count("merch_purchase"),
            "offers_seen_7d": past.count("impression", 7),
            "offers_seen_28d": past.count("impression", 28),
            "days_since_last_offer": past.seconds_since("impression") / DAY,
            "offers_clicked_28d": past.count("click", 28),
            "offers_accepted_90d": accepted,
            "offer_acceptance_90d": _share(accepted, seen_90d),
            "offers_dismissed_28d": past.count("dismiss", 28),
        }
    )


NAMES: Sequence[str] = (
    *("tier", "market", "age_band", "is_student", "days_on_tier", "plan_changes_90d", "days_since_signup"),
    *("had_trial", "past_premium", "consent_marketing", "payment_failed", "payments_failed_90d"),
    *("days_since_last_payment", "sessions_7d", "sessions_28d", "minutes_7d", "minutes_28d", "minutes_90d"),
    *("minutes_trend", "active_days_28d", "days_since_last_session", "night_share_28d", "devices_28d"),
    *("hifi_device", "audiobook_minutes_28d", "audiobook_share_28d", "family_plan_signals_28d", "skips_limited_7d"),
    *("skips_limited_per_session_28d", "ads_heard_7d", "ads_per_hour_28d", "distinct_artists_28d"),
    *("artist_variety_28d", "followed_artists", "days_since_last_follow", "followed_artists_on_tour"),
    *("merch_clicks_28d", "merch_purchases", "offers_seen_7d", "offers_seen_28d", "days_since_last_offer"),
    *("offers_clicked_28d", "offers_accepted_90d", "offer_acceptance_90d", "offers_dismissed_28d"),
)
"""All that are declared, but for sets, which pandas has no good column for."""


def snapshot(data: Path, out: Path, moment: pd.Timestamp) -> None:
    """Reads users and events, and writes one Parquet file in the order of user ids."""
    users = pd.read_parquet(data / "users.parquet")
    users = users[users["signup_at"] < moment].sort_values("user_id", ignore_index=True)
    past = Past(data / "events.parquet", pd.Index(users["user_id"]), moment)
    features(users, past, moment).to_parquet(out, index=False)


def _seconds(moments: pd.Series) -> pd.Series:
    return moments.dt.as_unit("us").astype("int64") // 1_000_000


def _share(part: pd.Series, whole: pd.Series) -> pd.Series:
    return part.astype("float64") / whole.astype("float64").where(whole != 0)
