"""A BentoML service for the reference model: run in the environment of requirements/peers/bentoml.txt.

`bentoml serve bentoml_service:Scorer` with GIVEN in the environment: one worker, no reload, no access log. `/predict`
is what BentoML's guides write for a model like this, a plain function, which is called on a thread; `/predict_on_loop`
does without the thread.
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
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Scores. Arrays are read faster than lists."""
        return self.booster.predict(rows, num_threads=1)

    @bentoml.api
    async def predict_on_loop(self, rows: np.ndarray) -> np.ndarray:
        """The same without a hop to a thread, which takes longer here than it saves: all others wait meanwhile."""
        return self.booster.predict(rows, num_threads=1)
