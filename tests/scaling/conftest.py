"""Both engines, each started once for a module's tests."""

import pytest

from scaling.local import Local


@pytest.fixture(scope="module", params=["local", "ray"])
def twin(request):
    """Each of the engines in turn, with two workers."""
    return Local(2) if request.param == "local" else request.getfixturevalue("ray_engine")
