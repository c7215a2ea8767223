"""Against causalml, in an environment of its own: `SEGUE_CAUSALML` names its Python."""

import os

import pytest

from benchmarks.uplift_peer import agreement


@pytest.mark.heavy
@pytest.mark.skipif("SEGUE_CAUSALML" not in os.environ, reason="causalml is not here: set SEGUE_CAUSALML to its Python")
def test_the_uplift_learners_say_what_causalmls_say():
    found = agreement(os.environ["SEGUE_CAUSALML"])
    assert found["s_learner"]["largest_difference"] < 1e-12
    assert found["t_learner"]["largest_difference"] < 1e-12
    assert found["dr_learner"]["correlation"] > 0.95  # theirs fits each part on thirds, ours on all
    for learner in found.values():
        assert learner["our_rms_error"] < 1.2 * learner["their_rms_error"]
