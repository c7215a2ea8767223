"""Ray while it is needed: an own one on this machine, or the cluster at RAY_ADDRESS."""

import logging
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from decisioning.errors import UserError

WORKERS = 2
STORE_BYTES = 512 * 2**20
"""Shared memory of a Ray of our own. Nothing big goes through it but training rows; what is more is spilled to disk."""
KNOCK_SECONDS = 5.0
ADDRESS = "RAY_ADDRESS"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon it sees that the ranks are done
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's tables on standard output, however quiet it is told to be
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of a change to come for GPUs
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's word for a node that nobody else is to reach: all its ports are on 127.0.0.1. Read when Ray is imported."""


@dataclass(frozen=True, slots=True)
class Session:
    """A Ray that runs, and how many workers to use of it."""

    workers: int
    is_own: bool
    """Whether it was started for this, on this machine alone."""


@contextmanager
def session(workers: int | None = None) -> Iterator[Session]:
    """Connects to the cluster at RAY_ADDRESS, or starts a small Ray of its own, and ends that again.

    There are at most as many workers as it has CPUs: one more would wait for ever. A Ray that this process is connected
    to already is used, and left as it is. Raises UserError where Ray is not installed, the cluster can't be reached, or
    this machine can't start one.
    """
    address = os.environ.get(ADDRESS)
    ray = _import_ray(own=address is None)
    if ray.is_initialized():
        yield Session(min(workers or _cpus(ray), _cpus(ray)), is_own=False)
        return
    folder = tempfile.mkdtemp(prefix="segue-ray-")
    with _quiet():
        try:
            _start(ray, address, workers or WORKERS, folder)
            yield Session(min(workers or _cpus(ray), _cpus(ray)), is_own=address is None)
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Ray's daemons say of workers goes to standard output, where a verb's JSON goes: not with us."""
    from ray._private import worker

    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = True


@contextmanager
def _python_path() -> Iterator[None]:
    """Workers find the modules that this process finds, as spawned processes do."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _import_ray(*, own: bool) -> Any:
    for name, value in {**QUIET, **(LOOPBACK if own else {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UserError(
            "`--engine ray` needs Ray, which is not installed: pip install 'segue[ray]', or take --engine local."
        ) from None
    return ray


def _start(ray: Any, address: str | None, workers: int, folder: str) -> None:
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    own = {
        "address": "local",
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": min(STORE_BYTES, _shared_memory() // 2),
        "_temp_dir": folder,
    }
    try:
        if address is not None:
            _knock(address)
        with warnings.catch_warnings(), _python_path():
            warnings.simplefilter("ignore")
            ray.init(**common, **(own if address is None else {"address": address}))
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        said = str(error).strip().partition("\n")[0]
        if address is not None:
            raise UserError(
                f"The Ray cluster at {address} ({ADDRESS}) can't be reached: {said.rstrip('.')}. "
                f"Start it, or unset {ADDRESS} to use a Ray of this machine."
            ) from None
        raise UserError(
            f"Ray can't be started on this machine: {said.rstrip('.')}. `--engine local` needs none."
        ) from None


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself would try for minutes."""
    where = urlsplit(address if "://" in address else f"ray://{address}")
    if where.hostname and where.port:
        socket.create_connection((where.hostname, where.port), timeout=KNOCK_SECONDS).close()


def _cpus(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _shared_memory() -> int:
    """Bytes that are free where Ray keeps its objects."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 2 * STORE_BYTES
