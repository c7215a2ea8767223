"""How models are fitted, one learner per module. Offline only: this pulls LightGBM and scikit-learn in."""

import os

# Here, because it is read when OpenMP loads, with whichever module imports LightGBM first. Threads that spin while they
# wait made a fit eight times slower on cores shared with others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
