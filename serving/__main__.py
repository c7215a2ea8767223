"""`python -m serving`: the server alone, as the image runs it."""

import argparse
import os
import sys
from pathlib import Path

from decisioning.errors import UserError
from serving.settings import DRAIN, Settings
from stores.home import Home


def main() -> None:
    """Options, or the environment variables that stand in for them."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no arithmetic here is worth a thread, nor a fork with threads
    from serving.processes.supervisor import serve

    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve decisions from a release folder.",
        epilog="example: python -m serving --releases /srv/releases --redis-url redis://store:6379 --host 0.0.0.0",
    )
    env = os.environ
    parser.add_argument("--home", type=Path, default=env.get("SEGUE_HOME", ".segue"), help="work folder [SEGUE_HOME]")
    parser.add_argument("--releases", type=Path, help="release folder; default: <home>/releases")
    parser.add_argument("--catalog", type=Path, help="rules to decide by while there is no release: <home>/catalog")
    parser.add_argument("--logs", type=Path, help="where decisions and events are written; default: <home>/logs")
    parser.add_argument("--redis-url", default=env.get("REDIS_URL"), help="the online store [REDIS_URL]")
    parser.add_argument("--host", default=env.get("SEGUE_HOST", "127.0.0.1"), help="[SEGUE_HOST]")
    parser.add_argument("--port", type=int, default=env.get("SEGUE_PORT", "8080"), help="0 for any [SEGUE_PORT]")
    parser.add_argument("--workers", type=int, default=env.get("SEGUE_WORKERS", 1), help="processes [SEGUE_WORKERS]")
    parser.add_argument("--keys", type=Path, default=env.get("SEGUE_KEYS"), help="file of API keys [SEGUE_KEYS]")
    parser.add_argument(
        "--open",
        action="store_true",
        default=env.get("SEGUE_OPEN") == "1",
        help="without keys, answer strangers too [SEGUE_OPEN=1]",
    )
    parser.add_argument("--drain", type=float, default=env.get("SEGUE_DRAIN", DRAIN), help="seconds [SEGUE_DRAIN]")
    told = parser.parse_args()
    try:
        settings = Settings(
            home=Home(Path(told.home)),
            host=told.host,
            port=told.port,
            redis_url=told.redis_url,
            releases=told.releases,
            logs=told.logs,
            catalog=told.catalog,
            keys=told.keys,
            open_to_all=told.open,
            drain=told.drain,
            workers=told.workers,
        )
        serve(settings)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
