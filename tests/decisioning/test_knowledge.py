"""What is known of a user: freshness, defaults, and the names that the catalog declares."""

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.domain import Facts, Request
from decisioning.knowledge import Knowledge

NOW = 1_800_000_000.0
FEATURES = [
    FeatureSpec("tier", FeatureType.ENUM, ("free", "premium")),
    FeatureSpec("sessions", FeatureType.INT, default=0, max_age=3600.0),
    FeatureSpec("minutes", FeatureType.FLOAT, max_age=7200.0),
    FeatureSpec("device", FeatureType.ENUM, ("phone", "tv"), default="phone", from_context=True),
]
KNOWLEDGE = Knowledge(Catalog("h", features={spec.name: spec for spec in FEATURES}))


def known(features, age=0.0, **context):
    return KNOWLEDGE.values(Request("d", "u", "home", NOW, context), Facts(features, NOW - age))


def test_a_missing_value_takes_its_default_or_is_absent():
    assert known({}) == known({"tier": None, "sessions": None}) == {"sessions": 0, "device": "phone"}
    assert known({}, device=None)["device"] == "phone"


def test_a_value_older_than_its_age_allows_is_missing_and_one_just_as_old_is_not():
    features = {"tier": "free", "sessions": 5, "minutes": 2.5}
    assert known(features, age=3600.0)["sessions"] == 5
    assert known(features, age=3600.5) == {"tier": "free", "sessions": 0, "minutes": 2.5, "device": "phone"}
    assert known(features, age=7200.5) == {"tier": "free", "sessions": 0, "device": "phone"}


def test_a_client_can_say_only_what_the_catalog_takes_from_the_context():
    features = {"tier": "free", "sessions": 5}
    found = known(features, device="tv", tier="premium", sessions=99, unheard_of=1)
    assert found == {"tier": "free", "sessions": 5, "device": "tv"}
    assert "minutes" not in known(features, minutes=100.0)
    assert features == {"tier": "free", "sessions": 5}


def fresh(features, moments, as_of=None):
    return KNOWLEDGE.values(Request("d", "u", "home", NOW), Facts(features, as_of, fresh=moments))


def test_a_fresh_value_is_as_old_as_its_own_moment():
    features = {"tier": "free", "sessions": 5, "minutes": 2.5}
    old = NOW - 10_000.0
    assert fresh(features, {}, old) == {"tier": "free", "sessions": 0, "device": "phone"}
    assert fresh(features, {"sessions": NOW - 60.0}, old) == {"tier": "free", "sessions": 5, "device": "phone"}
    assert fresh(features, {"sessions": NOW - 3600.5}, old)["sessions"] == 0
    assert fresh({"sessions": 5}, {"sessions": NOW - 3600.0})["sessions"] == 5, "of a user whom no snapshot knows"
    assert fresh({"sessions": 5}, {"sessions": NOW - 3600.5})["sessions"] == 0


def test_features_are_stale_where_a_value_that_was_read_is_too_old_for_use():
    def is_stale(features, age, **moments):
        return KNOWLEDGE.is_stale(Facts(features, NOW - age, fresh=moments), NOW)

    assert not is_stale({"tier": "free", "sessions": 5}, 3600.0)
    assert is_stale({"tier": "free", "sessions": 5}, 3600.5)
    assert not is_stale({"tier": "free", "sessions": 5}, 3600.5, sessions=NOW - 60.0)
    assert not is_stale({"tier": "free", "sessions": None}, 3600.5)
    assert not KNOWLEDGE.is_stale(Facts(), NOW)
