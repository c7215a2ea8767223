"""`segue serve`: what it says of options that can't be right, before anything is opened."""

import pytest

from stores.home import Home
from stores.releases import ReleaseStore

NOWHERE = "redis://127.0.0.1:1"
CATALOG = b"surfaces: {banner: {fallback: null, deadline: 50ms}}"


@pytest.fixture
def served(monkeypatch, tmp_path) -> list:
    """The settings of servers that got as far as being started; none of them is."""
    found: list = []
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("serving.processes.supervisor.serve", lambda settings, **more: found.append(settings))
    return found


@pytest.mark.parametrize("is_released", [False, True])
def test_a_catalog_folder_that_is_not_there_is_said_and_never_passed_over(here, served, tmp_path, is_released):
    if is_released:
        releases = ReleaseStore(Home(tmp_path / "home").releases)
        release = releases.publish({"catalog/all.yaml": CATALOG}, who="test", why="test", now=0.0)
        releases.activate(release, expected=None, who="test", why="test", now=0.0)
    code, _, said = here("serve", "--catalog", tmp_path / "rules", "--redis-url", NOWHERE)
    assert (code, served) == (2, [])
    assert "There is no catalog folder" in said
    (tmp_path / "rules").mkdir()
    assert here("serve", "--catalog", tmp_path / "rules", "--redis-url", NOWHERE)[0] == 0
    assert [one.catalog for one in served] == [tmp_path / "rules"]
