import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.labels.labels import label
from evaluation.values.arm_means import SMOOTHING, arm_means


def log_with(make_tables, make_catalog, shown, bought):
    """1,000 decisions of the group's offers a and b, of which 100 converted, and some of the newcomer c."""
    rows = [(i, "ab"[i % 2], 0.5) for i in range(1000)] + [(1000 + i, "c", 0.5) for i in range(shown)]
    outcomes = [(i, "convert", None, 1) for i in (*range(100), *range(1000, 1000 + bought))]
    catalog = make_catalog({"a": 1.0, "b": 1.0, "c": 1.0})
    rows[0] = (0, "a", 0.5)
    return label(make_tables([(*row, ("a", "b", "c")) for row in rows], outcomes), catalog, "m")


def test_a_brand_new_offer_starts_at_its_groups_rate(make_tables, make_catalog):
    logged = log_with(make_tables, make_catalog, 0, 0)
    means = arm_means(logged, np.arange(logged.n))
    assert means.offers["c"] == means.groups["plans"] == pytest.approx(0.1, abs=1e-3)


@given(shown=st.integers(1, 400), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_its_rate_moves_from_there_to_its_own_as_evidence_comes(make_tables, make_catalog, shown, share):
    """Halfway after SMOOTHING decisions, and always between the two."""
    bought = round(shown * share)
    logged = log_with(make_tables, make_catalog, shown, bought)
    means = arm_means(logged, np.arange(logged.n))
    group, own, found = means.groups["plans"], bought / shown, means.offers["c"]
    assert found == pytest.approx((shown * own + SMOOTHING * group) / (shown + SMOOTHING))
    assert min(group, own) - 1e-12 <= found <= max(group, own) + 1e-12


def test_what_has_retired_has_no_mean_and_moves_no_other(make_tables, make_catalog):
    rows = [(i, "abz"[i % 3], 1 / 3) for i in range(300)]
    outcomes = [(i, "convert", None, 1) for i in range(300) if i % 3 == 2 or i % 30 == 0]  # z always, a sometimes
    logged = label(make_tables(rows, outcomes), make_catalog(), "m")
    means = arm_means(logged, np.arange(logged.n))
    assert set(means.offers) == {"a", "b"}
    assert set(means.groups) == {"plans"}
    assert means.overall == pytest.approx(0.05)
