"""The figures of learning and evidence, beside their targets: `make bench-learning`.

Each `benchmarks/learning_<part>.py` measures its own; this asks them all, prints a table and writes
benchmarks/results/learning.json. A part that is missing or fails leaves its figures empty, is said, and fails the run;
`--only gate` measures one part anew and keeps the rest of the file.
"""

from collections.abc import Mapping

from benchmarks.assembly import Assembly, Target

TARGETS: Mapping[str, Target] = {
    "captured_share": Target("simulator", "of the way from static priority to the look-ahead reference", 0.60),
    "vs_propensity_argmax": Target("simulator", "over propensity-argmax", 0.15),
    "vs_lints": Target("simulator", "over LinTS", 0.0),
    "vs_vw": Target("simulator", "over Vowpal Wabbit", 0.0),
    "exploration_cost": Target("simulator", "of greedy's value that exploration costs", 0.03, at_most=True),
    "gate_null_pass_rate": Target("gate", "of challengers worth the same pass", 0.05, at_most=True),
    "gate_lift15_pass_rate": Target("gate", "of challengers worth 15 % more pass", 0.80),
    "lower_bound_coverage": Target("gate", "of lower bounds lie below the truth", 0.93),
    "train_1m_s": Target("train", "s to train on and evaluate a million decisions", 300.0, at_most=True),
    "train_1m_peak_gb": Target("train", "GB at most, meanwhile", 4.0, at_most=True),
    "whatif_1m_s": Target("whatif", "s to decide a million recorded decisions again", 120.0, at_most=True),
}
LEARNING = Assembly("learning", TARGETS)
run, table = LEARNING.run, LEARNING.table

if __name__ == "__main__":
    LEARNING.main(__doc__)
