"""A batch of decisions, here or in a process that is killed."""

import multiprocessing
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from post_office import DAY, NOW, PostOffice

from evaluation.batch.jobs import Question, decide_all
from scaling.engines import Engine
from scaling.local import Local


def batch(
    office: PostOffice,
    out: Path,
    store: Any,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    log: Path | None = None,
    **more: Any,
) -> dict:
    """Everybody's push at NOW, where nothing else is asked."""
    asked = {"load": office.load, "surface": "push", "snapshot": office.snapshot, "users": None, "at": NOW, **more}
    secret = office.home.secret()
    return decide_all(
        Question(out=out, **asked), engine or Local(workers), store=store, secret=secret, log=log, lease=DAY
    )


def until_killed(office: PostOffice, out: Path, store: Any, log: Path, seed: int) -> None:
    """Begins the run, or goes on with it, and kills its process a random moment after it has begun a part."""
    sent = SimpleNamespace(home=office.home, load=office.load, snapshot=office.snapshot)  # can be sent
    process = multiprocessing.get_context("spawn").Process(
        target=batch, args=(sent, out, store), kwargs={"log": log, "part_rows": 2048}
    )
    started = time.time()
    process.start()
    while process.is_alive() and not _has_begun(out, started):
        time.sleep(0.005)
    time.sleep(Random(seed).uniform(0.0, min(0.5, len(office.ids) / 3000)))
    process.kill()
    process.join()


def _has_begun(out: Path, since: float) -> bool:
    """Whether a part was begun since; an old mark is touched when its part is begun again."""
    with suppress(FileNotFoundError):  # done meanwhile
        return any(path.stat().st_mtime > since for path in (out / ".work").glob("*.begun"))
    return False
