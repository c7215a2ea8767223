"""MLServer, with its LightGBM runtime, for the reference model: run in the environment of peers/mlserver.txt.

`mlserver_serving.py --port P --given FOLDER`. Writes the two settings files and becomes `mlserver start`: inference in
the server's own process, as there is one core; no debug, no gzip of small answers, no access log.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--given", type=Path, required=True)
    asked = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    (folder / "model.bst").symlink_to(asked.given / "model.txt")
    settings = {
        **{"debug": False, "host": "127.0.0.1", "http_port": asked.port, "parallel_workers": 0, "gzip_enabled": False},
        **{"grpc_port": asked.port + 1, "metrics_port": asked.port + 2},
    }
    model = {"name": "scorer", "implementation": "mlserver_lightgbm.LightGBMModel"}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model | {"parameters": {"uri": "./model.bst"}}))
    os.execv(Path(sys.executable).parent / "mlserver", ["mlserver", "start", str(folder)])


if __name__ == "__main__":
    main()
