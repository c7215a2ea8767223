import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import DAY
from evaluation.labels.labels import label
from evaluation.values.crossfit import CrossFit
from evaluation.values.time_order import TimeOrdered, time_ordered
from models.encoding import Encoding
from models.learners import fit
from stores.tables import Tables


@pytest.fixture
def over_time(trial):
    """The trial, its decisions evenly over some days; from a day on, tastes are turned round."""

    def make(days, turned_from=None, n=12_000):
        tables, turned = trial(n=n, right=0.4, wrong=0.15), trial(n=n, right=0.15, wrong=0.4)
        day = np.linspace(0, days, n)
        late = pd.Series(
            day >= (days + 1 if turned_from is None else turned_from), index=tables.decisions["decision_id"]
        )
        delay = pd.Series(pd.to_timedelta(day, unit="D"), index=late.index)
        outcomes = pd.concat(
            [
                tables.outcomes[~late[tables.outcomes["decision_id"]].to_numpy()],
                turned.outcomes[late[turned.outcomes["decision_id"]].to_numpy()].assign(
                    event_id=lambda rows: rows["event_id"] + "-late"
                ),
            ],
            ignore_index=True,
        )
        outcomes["at"] = outcomes["at"] + delay[outcomes["decision_id"]].to_numpy()
        decisions = tables.decisions.assign(at=tables.decisions["at"] + delay.to_numpy())
        return Tables(tables.facts, decisions, outcomes, {"as_of": "2027-01-01T00:00:00Z"})

    return make


def judged(tables, catalog):
    logged = label(tables, catalog, "m")
    encoding = Encoding.of(catalog, logged.surfaces, logged.arms)

    def folds(part):
        return CrossFit(part, encoding, lambda sample: fit("logistic", encoding, sample, {}, 0), folds=3)

    return logged, time_ordered(folds(logged), folds)


def test_a_gain_that_lasts_is_shown_on_what_came_later(over_time, make_catalog):
    logged, found = judged(over_time(60), make_catalog())
    assert isinstance(found, TimeOrdered)
    assert found.shrinkage > 0
    assert 0.05 < found.diff_low < found.diff_lower < found.diff < found.diff_high < 0.2
    assert found.judged == (logged.at > found.cut).sum() == 3600
    assert found.trained == (logged.at <= found.cut - 14 * DAY).sum()


def test_a_world_that_turns_round_shows_up_where_folds_by_user_are_blind(over_time, make_catalog):
    _, found = judged(over_time(60, turned_from=42), make_catalog())
    assert found.diff_high < -0.02


def test_a_trial_of_a_day_has_nothing_to_order(over_time, make_catalog):
    _, found = judged(over_time(1), make_catalog())
    assert found == "not shown: the decisions span too little time beside their windows"


def test_few_later_decisions_are_not_enough_support(over_time, make_catalog):
    _, found = judged(over_time(60, n=1500), make_catalog())
    assert found.startswith("not shown: not enough support")


def test_what_is_learned_from_was_known_at_the_cut(over_time, make_catalog):
    """A decision whose window was still open then has a label from the future, so it is left out."""
    logged = label(over_time(60), make_catalog(), "m")
    encoding = Encoding.of(make_catalog(), logged.surfaces, logged.arms)
    seen = []

    def folds(part):
        seen.append(part)
        return CrossFit(part, encoding, lambda sample: fit("constant", encoding, sample, {}, 0), folds=3)

    found = time_ordered(folds(logged), folds)
    assert found.diff == 0.0
    assert seen[1].closed.max() <= found.cut < logged.closed.max()
