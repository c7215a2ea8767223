import ibis
import pandas as pd
import pytest

from decisioning.catalog import FeatureSpec
from decisioning.catalog import FeatureType as T
from decisioning.errors import UserError
from features import portable as p
from features.compute import compute
from features.definitions import FEATURES
from features.feature import Feature
from features.portability import check, troubles
from features.portable import SEEN, USER
from features.tallies import tallies


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_definition_is_made_of_portable_operations(feature):
    check(feature)


BANNED = {
    "delta": (USER.as_of.delta(USER.signup_at, unit="day"), T.INT, "uses TimestampDelta"),
    "hash": (SEEN.item.hash().max(), T.INT, "uses Hash"),
    "float to text": (SEEN.amount.max().cast("string"), T.ENUM, "casts float64 to string"),
    "fraction to whole": (SEEN.amount.max().cast("int64"), T.INT, "casts float64 to int64"),
    "epoch of a fraction": (SEEN.at.epoch_seconds().max(), T.INT, "takes epoch seconds of a fraction"),
    "epoch of a minute": (SEEN.at.truncate("m").epoch_seconds().max(), T.INT, "takes epoch seconds of a fraction"),
    "calendar": (SEEN.at.truncate("W").max() == SEEN.at.max(), T.BOOL, "truncates moments by calendars"),
    "division by a count": (p.count(SEEN, "play").cast("float64") / p.count(SEEN, "ads"), T.FLOAT, "divide by zero"),
    "division by nought": (SEEN.amount.max() / 0.0, T.FLOAT, "divide by zero"),
    "whole number divided": (p.count(SEEN, "play") / 4.0, T.FLOAT, "divides a whole number"),
    "median": (SEEN.amount.median(), T.FLOAT, "uses Median"),
    "quantile": (SEEN.amount.quantile(0.9), T.FLOAT, "uses Quantile"),
    "window": (SEEN.item.nunique().over(group_by="type"), T.INT, "uses WindowFunction"),
    "argmax": (SEEN.item.argmax(SEEN.at), T.ENUM, "uses ArgMax"),
    "array": (SEEN.item.collect().length(), T.INT, "uses ArrayLength"),
    "clock": (p.seconds(ibis.now()), T.INT, "uses TimestampNow"),
    "chance": (ibis.random(), T.FLOAT, "uses RandomScalar"),
    "sum of fractions": (SEEN.amount.sum(), T.FLOAT, "sums fractions"),
    "mean": (SEEN.amount.mean(), T.FLOAT, "uses Mean"),
    "another type": (p.count(SEEN, "play"), T.FLOAT, "gives int64, and is declared float"),
}


@pytest.mark.parametrize("name", BANNED)
def test_what_engines_do_differently_is_refused(name):
    value, type_, trouble = BANNED[name]
    mine = Feature(FeatureSpec("mine", type_), "me", "mine alone", of_events=lambda seen: value)
    with pytest.raises(UserError, match=f"The definition of mine .*{trouble}.*portable.py"):
        check(mine)


def test_nobody_computes_what_is_refused():
    median = Feature(FeatureSpec("usual", T.FLOAT), "me", "mine alone", of_events=lambda seen: seen.amount.median())
    none = pd.DataFrame({"user_id": ["u"], "as_of": [pd.Timestamp("2026-11-22", tz="UTC")]})
    for run in (lambda: compute(none, none, none, (median,)), lambda: tallies((median,))):
        with pytest.raises(UserError, match="definition of usual uses Median"):
            run()


@pytest.mark.parametrize("name", BANNED)
def test_it_is_found_however_deep_it_hides(name):
    value, type_, trouble = BANNED[name]
    hidden = ibis.ifelse(ibis.literal(True), value.isnull(), ibis.literal(False)).fill_null(False) & ibis.literal(True)
    if type_ is not T.FLOAT or "declared" not in trouble:
        assert any(trouble in one for one in troubles(hidden, T.BOOL))
