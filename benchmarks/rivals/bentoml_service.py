"""A BentoML service for the reference model: run in the environment of requirements/peers/bentoml.txt.

`bentoml serve bentoml_service:Scorer` with GIVEN in the environment: one worker, no reload, no access log.
"""

import os
from pathlib import Path

import bentoml
import lightgbm
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}}, metrics={"enabled": True})
class Scorer:
    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file=Path(os.environ["GIVEN"]) / "model.txt")

    @bentoml.api
    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """Scores. `async`: a request is shorter than a hop to a thread. Arrays are read faster than lists."""
        return self.booster.predict(rows, num_threads=1)
