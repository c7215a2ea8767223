import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureType
from features.compute import compute
from features.contract import AMOUNTS
from features.declared.account import ADDONS, MARKETS, TIERS
from features.definitions import FEATURES, SCHEMA
from features.frames import DTYPES

NOW = pd.Timestamp("2026-11-22", tz="UTC")
DAY = pd.Timedelta(days=1)
COLUMNS = ["user_id", "at", "type", "item", "amount", "hour"]


def users(**given) -> pd.DataFrame:
    row = {"user_id": "u1", "signup_at": NOW - 100 * DAY, "born_at": NOW - 30 * 365.25 * DAY, "market": "SE"} | given
    return pd.DataFrame([row])


def events(*rows: tuple) -> pd.DataFrame:
    """Each row: days before NOW, type, and then item, amount, hour."""
    full = [("u1", NOW - pd.Timedelta(days=row[0]), *row[1:], *(None,) * (5 - len(row))) for row in rows]
    frame = pd.DataFrame(full, columns=COLUMNS)
    return frame.astype({"user_id": "string", "type": "string", "item": "string", "amount": "float64", "hour": "Int64"})


def row_of(frame: pd.DataFrame) -> dict:
    return {name: (None if value is pd.NA or value != value else value) for name, value in frame.iloc[0].items()}


def observe(*at: pd.Timestamp) -> pd.DataFrame:
    return pd.DataFrame({"user_id": ["u1"] * len(at), "as_of": list(at)})


PAST = events(
    (99, "tier_change", "free"),
    (60, "tier_change", "premium"),
    (20, "tier_change", "free"),
    (99, "consent", "yes"),
    (70, "trial_start"),
    (50, "student", "yes"),
    (40, "addon_hifi", "on"),
    (30, "addon_audiobooks", "on"),
    (10, "addon_audiobooks", "off"),
    (2, "payment", "ok"),
    (1, "payment", "failed"),
    (29, "session", "hifi", 500.0, 12),
    (8, "session", "phone", 30.0, 23),
    (2.1, "session", "phone", 10.0, 4),
    (2.2, "session", "phone", 20.0, 12),
    (8, "play", "abba"),
    (2, "play", "abba"),
    (2, "play", "robyn"),
    (2, "ads", None, 4.0),
    (1, "ads", None, 3.0),
    (1, "skip_limit"),
    (30, "follow", "abba"),
    (29, "follow", "robyn"),
    (5, "unfollow", "robyn"),
    (4, "tour_nearby", "abba"),
    (4, "merch_click", "tee"),
    (90, "merch_purchase", "tee"),
    (3, "family_signal"),
    (3, "audiobook", "dune", 12.5),
    (6, "impression", "trial"),
    (9, "impression", "trial"),
    (9, "dismiss", "trial"),
    (50, "impression", "annual"),
    (50, "click", "annual"),
    (6, "click", "trial"),
    (5, "convert", "trial"),
    (80, "payment", "failed"),
)

EXPECTED = {
    "tier": "free",
    "market": "SE",
    "age_band": "25_34",
    "is_student": True,
    "days_on_tier": 20,
    "days_since_signup": 100,
    "sessions_7d": 2,
    "sessions_28d": 3,
    "minutes_7d": 30.0,
    "minutes_28d": 60.0,
    "skips_limited_7d": 1,
    "ads_heard_7d": 7,
    "active_days_28d": 2,
    "days_since_last_session": 2.1,
    "distinct_artists_28d": 2,
    "followed_artists": 1,
    "followed_artists_on_tour": 1,
    "merch_clicks_28d": 1,
    "merch_purchases": 1,
    "family_plan_signals_28d": 1,
    "audiobook_minutes_28d": 12.5,
    "hifi_device": True,
    "night_share_28d": 40.0 / 60.0,
    "owned_addons": ["hifi"],
    "had_trial": True,
    "past_premium": True,
    "offers_seen_7d": 1,
    "offers_dismissed_28d": 1,
    "payment_failed": True,
    "consent_marketing": True,
    "plan_changes_90d": 2,
    "payments_failed_90d": 2,
    "days_since_last_payment": 2.0,
    "minutes_90d": 560.0,
    "minutes_trend": 4 * 30.0 / 60.0,
    "devices_28d": 1,
    "audiobook_share_28d": 12.5 / 72.5,
    "skips_limited_per_session_28d": 1 / 3,
    "ads_per_hour_28d": 7.0,
    "artist_variety_28d": 2 / 3,
    "days_since_last_follow": 29.0,
    "offers_seen_28d": 2,
    "days_since_last_offer": 6.0,
    "offers_clicked_28d": 1,
    "offers_accepted_90d": 1,
    "offer_acceptance_90d": 1 / 3,
}


def test_every_feature_says_what_a_listener_did():
    found = row_of(compute(users(), PAST, observe(NOW)))
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert set(EXPECTED) == set(SCHEMA.names)


def test_a_user_of_whom_nothing_was_seen_has_counts_of_zero_and_unknown_states():
    found = row_of(compute(users(), events(), observe(NOW)))
    assert (found["sessions_7d"], found["owned_addons"], found["payment_failed"]) == (0, [], False)
    for name in ("tier", "consent_marketing", "hifi_device", "days_since_last_session", "night_share_28d"):
        assert found[name] is None


def test_nothing_is_known_of_a_user_before_the_sign_up():
    found = row_of(compute(users(), PAST.iloc[:0], observe(NOW - 101 * DAY)))
    assert all(found[name] is None for name in SCHEMA.names)


def test_who_listened_every_day_listened_on_28_of_28_days():
    found = row_of(compute(users(), events(*((days, "session") for days in (0.001, *range(1, 30)))), observe(NOW)))
    assert (found["active_days_28d"], found["sessions_28d"]) == (28, 29)


def test_who_signs_up_at_the_very_moment_is_not_known_yet():
    found = compute(users(signup_at=NOW), events(), observe(NOW, NOW + pd.Timedelta(seconds=1)))
    assert found["sessions_7d"].tolist() == [pd.NA, 0]


def test_an_event_at_the_very_moment_is_not_seen():
    found = compute(users(), events((0, "session", "phone", 10.0, 12)), observe(NOW, NOW + pd.Timedelta(seconds=1)))
    assert found["sessions_7d"].tolist() == [0, 1]


def test_columns_have_the_declared_dtypes_even_where_nothing_is_known():
    for past in (PAST, events()):
        found = compute(users(), past, observe(NOW))
        for spec in SCHEMA.specs:
            assert found[spec.name].dtype == pd.Series([], dtype=DTYPES[spec.type]).dtype, spec.name


def test_observations_keep_their_order_and_their_decision():
    observations = observe(NOW, NOW - 25 * DAY, NOW - 80 * DAY).assign(decision_id=["d3", "d1", "d2"])
    found = compute(users(), PAST, observations)
    assert found["decision_id"].tolist() == ["d3", "d1", "d2"]
    assert found["tier"].tolist() == ["free", "premium", "free"]


TYPES = ("tier_change", "session", "play", "follow", "impression", "consent", "addon_hifi", "payment", "trial_start")
EVENT = st.tuples(
    st.integers(-40, 40) | st.integers(-40 * 86_400, 40 * 86_400).map(lambda seconds: seconds / 86_400),
    st.sampled_from(TYPES),
    st.sampled_from((*TIERS, "yes", "no", "on", "failed")),
    st.floats(0, 100),
    st.integers(0, 23),
)


MOMENTS = (NOW, NOW - 7 * DAY)


def twins(ours: list[tuple], theirs: list[tuple]) -> None:
    """Two who differ only in the events given have the same features, to the last bit; one computation for both."""
    both = pd.concat([users(), users(user_id="u2")])
    owners = pd.array(["u1"] * len(ours) + ["u2"] * len(theirs), "string")
    past = events(*ours, *theirs).assign(user_id=owners)
    seen = pd.DataFrame({"user_id": ["u1"] * len(MOMENTS) + ["u2"] * len(MOMENTS), "as_of": [*MOMENTS, *MOMENTS]})
    found = compute(both, past, seen).drop(columns="user_id")
    one, other = found.iloc[: len(MOMENTS)], found.iloc[len(MOMENTS) :].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@given(st.lists(EVENT, max_size=12))
@settings(max_examples=12, deadline=None)
def test_what_happens_at_or_after_the_moment_changes_nothing(rows):
    twins(rows, [row for row in rows if row[0] > 0])


@given(st.lists(EVENT, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=12, deadline=None)
def test_the_order_in_which_events_lie_changes_nothing(rows, random):
    """Those at the same moment included."""
    twins(rows, random.sample(rows, len(rows)))


def test_of_two_states_at_one_moment_the_careful_one_counts_and_an_unknown_word_makes_it_unknown():
    both = [(3, "consent", "yes"), (3, "consent", "no"), (3, "payment", "failed"), (3, "payment", "ok")]
    for rows in (both, both[::-1]):
        found = row_of(compute(users(), events(*rows), observe(NOW)))
        assert (found["consent_marketing"], found["payment_failed"]) == (False, True)
    for word in ("duo", None):
        found = row_of(compute(users(), events((9, "tier_change", "premium"), (2, "tier_change", word)), observe(NOW)))
        assert (found["tier"], found["past_premium"], found["days_on_tier"]) == (None, True, 2)


def test_every_unit_is_of_something_that_there_cant_be_fewer_than_none_of():
    """So that the contract refuses a snapshot with a negative count, whatever is counted."""
    assert {feature.spec.unit for feature in FEATURES} - {""} <= AMOUNTS


def test_each_feature_is_declared_once_with_an_owner_a_meaning_and_one_expression():
    assert len({feature.name for feature in FEATURES}) == len(FEATURES) >= 40
    for feature in FEATURES:
        assert feature.owner
        assert feature.meaning
        assert feature.spec.max_age is not None, feature.name
        assert feature.spec.unit or feature.spec.type not in (FeatureType.INT,), feature.name
        assert (feature.of_events is None) != (feature.of_user is None)
    spec = {feature.name: feature.spec for feature in FEATURES}
    assert (spec["market"].values, spec["owned_addons"].values) == (MARKETS, ADDONS)
    assert spec["payment_failed"].blocks_if_missing
    assert spec["consent_marketing"].blocks_if_missing
    assert spec["sessions_7d"].max_age == 36 * 3600
    assert all(spec.type is not FeatureType.TEXT for spec in SCHEMA.specs)
