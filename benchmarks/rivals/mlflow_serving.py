"""`mlflow models serve` for the reference model: run in the environment of requirements/peers/mlflow.txt.

`mlflow_serving.py --port P --given FOLDER`. Saves the model with its signature and becomes `mlflow models serve` in the
same environment: one worker, uvloop and httptools, no access log. The signature is that of a data frame, with every
column by its name, as in MLflow's guide to LightGBM and its autologging. With `--tensor` it is that of an array, which
names no columns, and is faster.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import lightgbm
import mlflow.lightgbm
import pandas
from mlflow.models import infer_signature


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", required=True)
    words.add_argument("--given", type=Path, required=True)
    words.add_argument("--tensor", action="store_true")
    asked = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mlflow-")) / "model"
    booster = lightgbm.Booster(model_file=asked.given / "model.txt")
    split = json.loads((asked.given / "split.jsonl").read_text().splitlines()[0])["dataframe_split"]
    frame = pandas.DataFrame(split["data"], columns=split["columns"], dtype=float)
    example = frame.to_numpy() if asked.tensor else frame
    mlflow.lightgbm.save_model(booster, folder, signature=infer_signature(example, booster.predict(frame)))
    bin_folder = Path(sys.executable).parent
    os.environ["PATH"] = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    command = ["mlflow", "models", "serve", "-m", str(folder), "-h", "127.0.0.1", "-p", asked.port]
    os.execv(bin_folder / "mlflow", [*command, "--env-manager", "local", "--workers", "1"])


if __name__ == "__main__":
    main()
