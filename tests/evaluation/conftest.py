"""Small worlds with a known truth, as tables and catalogs."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import DAY, Catalog, FeatureSpec, FeatureType, Group, Offer, Score, Surface
from stores.tables import Tables

START = pd.Timestamp("2026-03-01", tz="UTC")


def catalog_of(nets=None, *, within=14 * DAY, converts_on="convert", features=("taste",), priorities=None):
    """Offers a and b (group plans) of the model m on one surface, unless told otherwise."""
    nets, priorities = nets or {"a": 1.0, "b": 1.0}, priorities or {}
    offers = {
        name: Offer(name, "pm", "plans", ("home",), Score("m", value=net), priority=priorities.get(name, 0))
        for name, net in nets.items()
    }
    specs = {name: FeatureSpec(name, FeatureType.BOOL) for name in features}
    return Catalog(
        "h",
        features=specs,
        groups={"plans": Group("plans", converts_on, within)},
        surfaces={"home": Surface("home", allow_nothing=True)},
        offers=offers,
    )


def tables_of(decisions, outcomes=(), facts=None, **dataset):
    """`decisions`: (user, offer, probability[, eligible]); `outcomes`: (decision number, type, value, days after)."""
    n = len(decisions)
    ids = pd.array([f"d{i}" for i in range(n)], dtype="string")
    frame = pd.DataFrame(
        {
            "decision_id": ids,
            "user_id": pd.array([str(row[0]) for row in decisions], dtype="string"),
            "at": pd.Series([START] * n),
            "surface": pd.array(["home"] * n, dtype="string"),
            "offer": pd.array([row[1] for row in decisions], dtype="string"),
            "probability": [float(row[2]) for row in decisions],
        }
    )
    if n and len(decisions[0]) > 3:
        frame["eligible"] = [list(row[3]) for row in decisions]
    followed = pd.DataFrame(
        {
            "event_id": pd.array([f"e{i}" for i in range(len(outcomes))], dtype="string"),
            "decision_id": pd.array([f"d{row[0]}" for row in outcomes], dtype="string"),
            "type": pd.array([row[1] for row in outcomes], dtype="string"),
            "value": pd.array([row[2] for row in outcomes], dtype="Float64"),
            "at": pd.Series([START + pd.Timedelta(days=row[3]) for row in outcomes], dtype="datetime64[ns, UTC]"),
        }
    )
    known = pd.DataFrame(
        {"decision_id": ids, "taste": pd.array([None] * n if facts is None else facts, dtype="boolean")}
    )
    return Tables(known, frame, followed, {"as_of": "2026-04-01T00:00:00Z", **dataset})


@pytest.fixture
def make_catalog() -> Callable[..., Catalog]:
    return catalog_of


@pytest.fixture
def make_tables() -> Callable[..., Tables]:
    return tables_of


@pytest.fixture(scope="session")
def trial() -> Callable[..., Tables]:
    """A randomised trial: who has the taste converts with `right` on b and `wrong` on a; the others the other way."""

    def make(n=4000, right=0.4, wrong=0.2, seed=0, arms=("a", "b"), users=None):
        rng = np.random.default_rng(seed)
        taste, shown = rng.random(n) < 0.5, rng.integers(0, len(arms), n)
        liked = taste == (shown == 1)
        p = np.where(shown < 2, np.where(liked, right, wrong), 0.05)
        converted = np.flatnonzero(rng.random(n) < p)
        return tables_of(
            [(i if users is None else i % users, arms[shown[i]], 1 / len(arms), arms) for i in range(n)],
            [(int(i), "convert", None, 2) for i in converted],
            facts=taste,
        )

    return make
