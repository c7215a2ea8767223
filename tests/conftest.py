"""What several packages' tests share: real servers to talk to."""

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from servers import Cluster, cluster, redis_server, system_server

from scaling.engines import Engine, engine_of
from stores.embedded import running

pytest.register_assert_rewrite("stand")  # so that what fails in there says by what

settings.register_profile("any machine", parent=settings(), deadline=None)  # how long an example takes is no property
settings.load_profile("any machine")

# Threads of LightGBM that wait for one another give their core away. Two that spin beside another process of the suite
# make a fit of two seconds take twenty.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OWN_SERVER = os.environ.get("REDIS_URL")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded Valkey, one for the whole run. Use a namespace of your own in it."""
    with running(Path(tmp_path_factory.mktemp("valkey"))) as url:
        yield url


@pytest.fixture(scope="session")
def debian_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The `redis-server` of the system, one for the whole run."""
    binary = system_server()
    if binary is None:
        pytest.skip("there is no redis-server on this machine: install the package redis-server (.ci/run does)")
    with redis_server(Path(tmp_path_factory.mktemp("redis")), binary) as server:
        yield server.url


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three Valkeys, one for the whole run. Use a namespace of your own in it, and do it no harm."""
    with cluster(Path(tmp_path_factory.mktemp("cluster"))) as made:
        yield made


@pytest.fixture(scope="session")
def cluster_url(three_nodes: Cluster) -> str:
    return three_nodes.url


@pytest.fixture(scope="session", params=["embedded", *(["REDIS_URL"] if OWN_SERVER else [])])
def redis_url(request: pytest.FixtureRequest) -> str:
    """The embedded Valkey, and then also the server at REDIS_URL where that is set."""
    return OWN_SERVER if request.param == "REDIS_URL" else request.getfixturevalue("valkey_url")


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[Engine]:
    """A Ray of two workers on this machine, for one module's tests."""
    if find_spec("ray") is None:  # to import it here would be too early: how it starts is read at import
        pytest.skip("Ray is not installed: the extra `ray`")
    with engine_of("ray", workers=2) as engine:
        yield engine


def pytest_unconfigure() -> None:
    """Servers that tests run in this process freeze what they load: let it be collected, or DuckDB reports leaks."""
    gc.unfreeze()
