"""Our S-, T- and DR-learner beside causalml's, on a trial whose effects are known.

    python -m venv .venv-causalml && .venv-causalml/bin/pip install causalml
    SEGUE_CAUSALML=.venv-causalml/bin/python python -m benchmarks.uplift_peer

causalml lives in an environment of its own: nothing of ours needs it, and it asks for other versions of what we use.
This file runs in both: with two arguments it is the peer, which reads the trial and writes what causalml says.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROWS, COLUMNS, SHARE, SEED = 40_000, 6, 0.3, 0
BOOSTING = {"num_leaves": 7, "learning_rate": 0.1, "num_threads": 2, "verbosity": -1}
TREES, LEAST, RIDGE = 80, 200, 1.0


def trial() -> dict[str, np.ndarray]:
    """One offer against NOTHING, shown more often to those in whom it does more; the effect goes from 0 to 0.2.

    Features have 51 values each, so that LightGBM's bins are the values, whether it sees all rows or some.
    """
    rng = np.random.default_rng(SEED)
    x = np.clip(rng.normal(size=(ROWS, COLUMNS)), -2.5, 2.5).round(1).astype(np.float32)
    effect = 0.2 / (1 + np.exp(-2 * x[:, 0]))
    base = 0.1 + 0.1 * (x[:, 1] > 0)
    p = np.where(x[:, 0] > 0, 1.5 * SHARE, SHARE)
    shown = rng.random(ROWS) < p
    outcome = (rng.random(ROWS) < base + effect * shown).astype(float)
    return {"x": x, "shown": shown.astype(int), "outcome": outcome, "p": p, "effect": effect}


def causalml_effects(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(ROWS,) effects by learner, each with LightGBM as we set it. Needs causalml."""
    from causalml.inference.meta import BaseDRLearner, BaseSClassifier, BaseTClassifier
    from lightgbm import LGBMClassifier, LGBMRegressor

    def model(kind: type, trees: int = TREES, least: int = LEAST, **more: float) -> object:
        settings = {**BOOSTING, "n_estimators": trees, "min_child_samples": least, "reg_lambda": RIDGE, **more}
        return kind(deterministic=True, force_row_wise=True, **settings)

    x, shown, y = (data[name] for name in ("x", "shown", "outcome"))
    s_learner = BaseSClassifier(learner=model(LGBMClassifier), control_name=0)
    t_learner = BaseTClassifier(learner=model(LGBMClassifier), control_name=0)
    dr_learner = BaseDRLearner(
        learner=model(LGBMRegressor),
        treatment_effect_learner=model(LGBMRegressor, 50, 1000, num_leaves=4, learning_rate=0.05),
        control_name=0,
    )
    found = {
        "s_learner": s_learner.fit_predict(x, shown, y, verbose=False),
        "t_learner": t_learner.fit_predict(x, shown, y, verbose=False),
        "dr_learner": dr_learner.fit_predict(x, shown, y, p=data["p"], verbose=False),
    }
    return {name: effects.ravel() for name, effects in found.items()}


def our_effects(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(ROWS,) σ(offer) − σ(NOTHING) by learner, from predictors as they serve."""
    from decisioning.catalog import FeatureSpec, FeatureType
    from decisioning.domain import NOTHING
    from models.crossing import Traits
    from models.encoding import Encoding
    from models.learners import Sample, fit

    features = tuple(FeatureSpec(f"x{k}", FeatureType.FLOAT) for k in range(COLUMNS))
    encoding = Encoding(features, ("home",), (Traits(NOTHING, NOTHING), Traits("offer", "all")))
    contexts = np.hstack([data["x"], np.ones((ROWS, 1), np.float32)])  # the last column is the surface
    logged = np.where(data["shown"] == 1, data["p"], 1 - data["p"])
    sample = Sample(contexts, data["shown"], data["outcome"], np.ones(ROWS), logged)
    found = {}
    for learner in ("s_learner", "t_learner", "dr_learner"):
        raw = fit(learner, encoding, sample, {}, SEED).matrix(contexts, [0, 1])
        nothing, offer = (1 / (1 + np.exp(-raw))).T
        found[learner] = offer - nothing
    return found


def agreement(python: str) -> dict[str, dict[str, float]]:
    """By learner: how far our effects are from causalml's, how they correlate, and each one's distance to the truth."""
    data = trial()
    with tempfile.TemporaryDirectory() as folder:
        told, heard = Path(folder) / "trial.npz", Path(folder) / "effects.npz"
        np.savez(told, **data)
        subprocess.run([python, __file__, str(told), str(heard)], check=True, capture_output=True)
        theirs = dict(np.load(heard))
    ours = our_effects(data)
    return {name: _compared(ours[name], theirs[name], data["effect"]) for name in ours}


def _compared(ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(((one - other) ** 2).mean()))

    return {
        "largest_difference": float(np.abs(ours - theirs).max()),
        "rms_difference": distance(ours, theirs),
        "correlation": float(np.corrcoef(ours, theirs)[0, 1]),
        "our_rms_error": distance(ours, truth),
        "their_rms_error": distance(theirs, truth),
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        np.savez(sys.argv[2], **causalml_effects(dict(np.load(sys.argv[1]))))
    elif "SEGUE_CAUSALML" not in os.environ:
        sys.exit("Name the Python of an environment that has causalml in SEGUE_CAUSALML.")
    else:
        print(json.dumps(agreement(os.environ["SEGUE_CAUSALML"]), indent=1))
