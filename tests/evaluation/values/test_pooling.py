import numpy as np
import pytest

from evaluation.labels.labels import label
from evaluation.values.crossfit import CrossFit
from evaluation.values.policy_values import policy_values
from evaluation.values.pooling import pooled_differences
from models.encoding import Encoding
from models.learners import fit


@pytest.fixture
def fits_of(trial, make_catalog):
    logged = label(trial(n=3000), make_catalog(), "m")
    encoding = Encoding.of(make_catalog(), logged.surfaces, logged.arms)

    def make(seed):
        return CrossFit(logged, encoding, lambda sample: fit("logistic", encoding, sample, {}, 0), folds=3, seed=seed)

    return make


def test_one_seed_pooled_is_what_the_table_says(fits_of):
    pooled = pooled_differences([fits_of(4)])["convert"].to_json()
    record = next(
        row for row in policy_values(fits_of(4)).records if (row["policy"], row["estimator"]) == ("trained", "dr")
    )
    for key in ("diff", "diff_low", "diff_high", "diff_lower"):
        assert pooled[key] == pytest.approx(record[key], abs=1e-12)


def test_seeds_are_averaged_and_count_no_user_twice(fits_of):
    """Five seeds of the same users are no five times as many: an interval for those would be 0.45 as wide as one's."""
    singles = [pooled_differences([fits_of(seed)])["convert"] for seed in range(5)]
    together = pooled_differences(fits_of(seed) for seed in range(5))["convert"]
    assert together.seeds == tuple(one.difference.value for one in singles)
    assert together.difference.value == pytest.approx(np.mean(together.seeds))
    widths = [np.ptp(one.difference.interval()) for one in singles]
    assert 0.6 * np.mean(widths) < np.ptp(together.difference.interval()) <= max(widths)
    assert len(together.shrinkages) == 5
