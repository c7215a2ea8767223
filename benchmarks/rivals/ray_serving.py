"""A Ray Serve deployment for the reference model: run in the environment of requirements/peers/ray_serve.txt.

`ray_serving.py --port P --given FOLDER`. One replica behind one HTTP proxy, Serve's settings for throughput, as many
requests at once as there are connections, no dashboard and no access log.
"""

import argparse
import json
import os
import signal
from pathlib import Path

os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}

import lightgbm
import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=64, logging_config={"enable_access_log": False})
class Scorer:
    def __init__(self, given: str) -> None:
        self.booster = lightgbm.Booster(model_file=Path(given) / "model.txt")

    async def __call__(self, request: Request) -> Response:
        rows = np.array(json.loads(await request.body())["rows"], float)
        scores = self.booster.predict(rows, num_threads=1).tolist()
        return Response(json.dumps({"scores": scores}), media_type="application/json")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--given", required=True)
    asked = words.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    options = {"host": "127.0.0.1", "port": asked.port}
    serve.start(http_options=options, logging_config={"enable_access_log": False})
    serve.run(Scorer.bind(asked.given), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
