"""Both engines, each started once for a module's tests."""

from importlib.util import find_spec

import pytest

from scaling.engines import engine_of


@pytest.fixture(scope="module")
def ray_engine():
    """A Ray of two workers on this machine."""
    if find_spec("ray") is None:  # to import it here would be too early: how it starts is read at import
        pytest.skip("Ray is not installed: the extra `ray`")
    with engine_of("ray", workers=2) as running:
        yield running


@pytest.fixture(scope="module", params=["local", "ray"])
def twin(request):
    """Each of the engines in turn, with two workers."""
    if request.param == "ray":
        return request.getfixturevalue("ray_engine")
    return request.getfixturevalue("local_engine")


@pytest.fixture(scope="module")
def local_engine():
    with engine_of("local", workers=2) as running:
        yield running
