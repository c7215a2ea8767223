import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.labels.labels import label
from evaluation.values.estimators import Rows
from evaluation.values.segments import (
    MISSING,
    SegmentDifference,
    Segments,
    Status,
    holm,
    segment_differences,
    segment_labels,
)

N = 40_000


def trial(rates, segment, *, seed=0, choice=1, users=None):
    """Two arms drawn evenly; `rates[segment]` are their rates. The rows of "always arm `choice`", and of "always 0"."""
    rng = np.random.default_rng(seed)
    n = len(segment)
    action = rng.integers(0, 2, n)
    table = np.asarray(rates)[segment]
    reward = (rng.random(n) < table[np.arange(n), action]).astype(float)
    user = np.arange(n) if users is None else np.arange(n) % users
    return [
        Rows(user, reward, 2.0 * (action == arm), table[np.arange(n), action], table[:, arm]) for arm in (choice, 0)
    ]


def found(rows, segment, **options):
    return {one.value: one for one in segment_differences(*rows, {"market": segment}, **options)}


def test_harm_in_one_market_is_found_though_all_of_it_together_gains():
    segment = np.arange(N) % 4
    pairs = found(trial([[0.2, 0.25], [0.2, 0.25], [0.2, 0.25], [0.2, 0.15]], segment), segment)
    assert {value: pair.status for value, pair in pairs.items()} == {
        "0": Status.WITHIN, "1": Status.WITHIN, "2": Status.WITHIN, "3": Status.WORSE,
    }  # fmt: skip
    assert pairs["3"].low < -0.05 < pairs["3"].high < 0
    assert pairs["0"].low < 0.05 < pairs["0"].high


def test_a_loss_within_the_margin_is_no_harm_and_one_beyond_it_is():
    segment = np.zeros(N, int)
    rows = trial([[0.5, 0.48]], segment)  # 4 % worse
    assert found(rows, segment, margin=0.08)["0"].status is Status.WITHIN
    assert found(rows, segment, margin=0.005)["0"].status is Status.WORSE


def test_too_little_data_is_not_shown_and_never_safe():
    segment = np.where(np.arange(N) < 600, "small", "large")
    rates = np.where((segment == "small")[:, None], [0.2, 0.4], [0.2, 0.25])
    pairs = found(trial(rates, np.arange(N)), segment)
    assert pairs["small"].status is Status.NOT_SHOWN
    assert "effective sample size" in pairs["small"].note
    assert pairs["small"].diff is pairs["small"].low is pairs["small"].p_worse is None
    assert pairs["large"].status is Status.WITHIN


def test_what_is_neither_shown_nor_ruled_out_stays_open():
    segment = np.zeros(3000, int)
    assert found(trial([[0.2, 0.195]], segment), segment)["0"].status is Status.OPEN


def test_nobody_converted_in_a_segment():
    segment = np.arange(N) % 2
    pairs = found(trial([[0.2, 0.2], [0.0, 0.0]], segment), segment)
    assert pairs["1"].status is Status.NOT_SHOWN
    assert "0 matched positives" in pairs["1"].note


def test_a_missing_value_is_a_segment_of_its_own():
    rows = trial([[0.2, 0.2]], np.zeros(6000, int))
    for missing in (None, float("nan"), pd.NA):
        labels = pd.Series(["de", missing] * 3000, dtype="string" if missing is pd.NA else object)
        assert set(found(rows, labels)) == {"de", MISSING}


def test_holm_is_the_published_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_without_harm_harm_is_found_in_at_most_one_look_of_twenty():
    """150 logs of ten segments, each exactly as much worse as the margin allows: the worst case."""
    segment = np.repeat(np.arange(10), 2500)
    rates = [[0.3, 0.285]] * 10
    wrong = sum(
        any(one.status is Status.WORSE for one in found(trial(rates, segment, seed=seed), segment).values())
        for seed in range(150)
    )
    assert wrong <= 15  # 5 % of 150, and three standard errors


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 300))
@settings(max_examples=25, deadline=None)
def test_segments_add_up_however_the_decisions_were_split(seed, values, cut):
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, values, 300)
    rows = trial([[0.4, 0.5]] * values, segment, seed=seed, users=70)

    def part(low, high):
        cut_rows = [
            Rows(*(getattr(one, name)[low:high] for name in ("user", "reward", "weight", "q_logged", "dm")))
            for one in rows
        ]
        return Segments.of(*cut_rows, {"market": segment[low:high]})

    whole, merged = part(0, 300), part(0, cut) + part(cut, 300)
    assert whole.pairs.keys() == merged.pairs.keys()
    for key in whole.pairs:
        for one, other in zip(whole.pairs[key], merged.pairs[key], strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-12, nan_ok=True)
            assert one.ess == pytest.approx(other.ess)
            if len(one.users) > 1:
                assert one.interval() == pytest.approx(other.interval(), abs=1e-12, nan_ok=True)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.sampled_from([1, 2, 1500, 4000]),
    st.sampled_from([0.0, 1.0, 1e-12, -3.0]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_no_figure_is_missing_without_a_reason_and_no_interval_has_no_width(seed, rate, users, worth, same):
    """Arms never logged, one user, no conversions, rewards of no worth, two policies that agree."""
    rng = np.random.default_rng(seed)
    n = 4000
    rows = trial([[rate, rate]] * 3, rng.integers(0, 3, n), seed=seed, choice=0 if same else 1, users=users)
    rows = [Rows(r.user, r.reward * worth, r.weight, r.q_logged * worth, r.dm * worth) for r in rows]
    labels = rng.choice(["a", "b", "c"], n, p=[0.9, 0.0995, 0.0005])
    for one in segment_differences(*rows, {"market": labels}):
        figures = (one.reference, one.diff, one.low, one.high, one.low_all, one.high_all, one.p_worse)
        if one.status is Status.NOT_SHOWN:
            assert one.note
            assert figures == (None,) * 7
        else:
            assert all(map(math.isfinite, figures))
            assert one.low_all <= one.low < one.diff < one.high <= one.high_all
        assert SegmentDifference.from_json(one.to_json()) == one


def test_segments_come_from_features_of_few_names(make_tables, make_catalog):
    tables = make_tables([(i, "a", 1.0) for i in range(30)])
    tables.facts["market"] = pd.array([f"m{i % 15}" for i in range(30)], dtype="string")  # market may have many
    tables.facts["device"] = pd.array(["phone", None] * 15, dtype="string")
    tables.facts["city"] = pd.array([f"c{i % 15}" for i in range(30)], dtype="string")
    tables.facts["plan"] = pd.array(["one"] * 30, dtype="string")
    labels = segment_labels(label(tables, make_catalog(), "m"))
    assert list(labels) == ["market", "device"]
    assert labels["device"][0] == "phone"
