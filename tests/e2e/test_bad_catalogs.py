"""A bad catalog in the hands of a product manager: the check and the promotion say what is wrong and where, and the
server that is running stays with the release that it has."""

import re
import time

import pytest
from bad_catalogs import BAD, GOOD, with_bad

from decisioning.errors import UserError
from stores.home import Home
from stores.releases import ReleaseStore
from training.promote import promote


def written(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def released(terminal):
    releases = ReleaseStore(terminal.home / "releases")
    good = releases.publish({"catalog/all.yaml": GOOD}, who="test", why="test", now=0.0)
    releases.activate(good, expected=None, who="test", why="test", now=0.0)
    return good


@pytest.fixture(scope="module")
def server(terminal, released):
    with terminal.serving() as server:
        yield server


@pytest.mark.parametrize("wrong", BAD)
def test_promotion_refuses_it_with_its_place_and_leaves_every_file_as_it_was(terminal, released, wrong):
    def kept() -> dict[str, bytes]:
        folder = terminal.home / "releases"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    content, words = BAD[wrong]
    before = kept()
    with pytest.raises(UserError) as caught:
        promote(Home(terminal.home), with_bad(content), None, None, who="pm", why="spring", force=True, now=1.0)
    assert words in str(caught.value)
    assert re.search(r"^(bad|all)\.yaml:\d+:\d+: ", str(caught.value), re.M)
    assert kept() == before


@pytest.mark.parametrize("wrong", ["a number as text", "an invariant that a rule breaks", "nested too deep"])
def test_a_running_server_answers_from_the_release_that_it_has(terminal, released, server, tmp_path, wrong):
    content, words = BAD[wrong]
    folder = written(tmp_path / "draft", with_bad(content))
    releases = ReleaseStore(terminal.home / "releases")
    told = terminal.segue("catalog", "check", folder, expect=2)
    assert words.split()[0] in told
    assert "Traceback" not in told
    terminal.segue("promote", "--catalog", folder, "--why", "spring", "--force", expect=2)
    # Even where somebody put it into the release store by hand:
    files = {f"catalog/{name}": text for name, text in with_bad(content).items()}
    planted = releases.publish(files, who="test", why="test", now=2.0)
    releases.activate(planted, expected=releases.current(), who="test", why="test", now=2.0)
    until = time.monotonic() + 1.5  # servers look several times a second
    while time.monotonic() < until:
        answer = server.client.decide("ann", "banner")
        assert answer["release"] == released
        assert [one["offer"] for one in answer["offers"]] == ["annual"]
    releases.activate(released, expected=planted, who="test", why="test", now=3.0)
