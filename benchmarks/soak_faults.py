"""The faults of the soak, each a context: it begins, something is wrong for a while, it ends."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stores.home import Home
from stores.log.segments import OPEN, SEALED
from stores.releases import ReleaseStore

SHORT, LONG = 2.0, 5.0
"""Seconds for which a fault lasts."""
WHO: dict[str, Any] = {"who": "soak", "why": "a fault", "now": 0.0}


@dataclass
class Scene:
    """What there is to break. `store` and `between` are those of the tests: a server, and the proxy before it."""

    home: Home
    store: Any
    between: Any
    supervisor: int
    version: Callable[[], dict]
    """What the server tells at /version."""
    kept: Path
    """Where lines of logs that were removed stay until the end."""
    killed: list[float] = field(default_factory=list)
    """When workers were killed."""

    @property
    def releases(self) -> ReleaseStore:
        return ReleaseStore(self.home.releases)

    def activate(self, release: str) -> None:
        self.releases.activate(release, expected=self.releases.current(), **WHO)


Fault = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def store_killed(scene: Scene) -> Iterator[None]:
    with scene.store.client() as client:
        client.save()
    scene.store.kill()
    yield
    if not scene.store.start():
        raise RuntimeError("the store did not come back")


def configured(name: str, value: str) -> Fault:
    @contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        with scene.store.client() as client:
            before = client.config_get(name)[name]
            client.config_set(name, value)
            yield
            client.config_set(name, before)

    return fault


def on_the_way(kind: str, **more: float) -> Fault:
    return lambda scene: scene.between.fault(kind, **more)


@contextmanager
def worker_killed(scene: Scene) -> Iterator[None]:
    worker = next(one["pid"] for one in scene.version()["workers"] if one["state"] == "serving")
    scene.killed.append(time.time())
    os.kill(worker, signal.SIGKILL)
    yield


@contextmanager
def release_swapped(scene: Scene) -> Iterator[None]:
    """Another release, then the first one again."""
    first = scene.releases.current()
    scene.activate(_another(scene, b"\n# of the soak\n"))
    _until(lambda: {one["release"] for one in scene.version()["workers"]} == {scene.releases.current()})
    yield
    scene.activate(first)


@contextmanager
def release_invalid(scene: Scene) -> Iterator[None]:
    first = scene.releases.current()
    scene.activate(_another(scene, b"\noffers: {broken: }\n"))
    _until(lambda: scene.version().get("refused"))
    yield
    scene.activate(first)


@contextmanager
def logs_removed(scene: Scene) -> Iterator[None]:
    """Their lines stay readable by files that are open here, and are put back at the end."""
    opened = {
        path: path.open("rb") for name in ("decisions", "events") for path in (scene.home.logs / name).glob("*.jsonl")
    }
    shutil.rmtree(scene.home.logs)
    yield
    for path, file in opened.items():
        with file:
            _keep(scene, path, file.read())


@contextmanager
def rolling_restart(scene: Scene) -> Iterator[None]:
    before = {one["pid"] for one in scene.version()["workers"]}
    os.kill(scene.supervisor, signal.SIGHUP)
    yield
    _until(lambda: not before & {one["pid"] for one in scene.version()["workers"] if one["state"] == "serving"})


FAULTS: tuple[tuple[str, Fault, float], ...] = (
    ("store killed and started again", store_killed, SHORT),
    ("worker kill -9", worker_killed, SHORT),
    ("rolling restart", rolling_restart, LONG),
    ("store hangs", lambda scene: scene.store.hanging(), SHORT),
    ("release swapped", release_swapped, LONG),
    ("every answer of the store late", on_the_way("slow", seconds=0.2), LONG),
    ("one answer in ten late", on_the_way("slow", seconds=0.06, share=0.1), LONG),
    ("store answers garbage", on_the_way("garble"), SHORT),
    ("release invalid", release_invalid, LONG),
    ("store out of memory", configured("maxmemory", "1"), LONG),
    ("folder of logs removed", logs_removed, SHORT),
    ("store refuses connections", on_the_way("refuse"), SHORT),
    ("store takes no writes", configured("min-replicas-to-write", "1"), LONG),
    ("store swallows everything", on_the_way("swallow"), SHORT),
    ("store resets connections", on_the_way("reset"), SHORT),
)
"""What it is called, what it does, and for how many seconds. New workers come early: the longer they live, the surer it
is that their memory stays flat."""


def put_back(scene: Scene) -> None:
    """The lines of logs that were removed, as sealed segments."""
    for path in scene.kept.rglob("*.jsonl"):
        target = scene.home.logs / path.relative_to(scene.kept)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _another(scene: Scene, more: bytes) -> str:
    files = scene.releases.files(scene.releases.current())
    name = next(name for name in files if name.startswith("catalog/"))
    return scene.releases.publish({**files, name: files[name] + more}, **WHO)


def _keep(scene: Scene, path: Path, content: bytes) -> None:
    target = scene.kept / path.parent.name / (path.name.removesuffix(OPEN).removesuffix(SEALED) + SEALED)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content[: content.rfind(b"\n") + 1])


def _until(holds: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so within {seconds} s")
        time.sleep(0.05)
