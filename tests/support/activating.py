"""Releases that come into use while a server runs."""

import time
from collections.abc import Mapping

from stores.home import Home
from stores.releases import ReleaseStore


def activate(home: Home, files: Mapping[str, bytes]) -> str:
    """Publishes these files and points to them; gives the release's id."""
    store = ReleaseStore(home.releases)
    release = store.publish(files, who="test", why="test", now=time.time())
    store.activate(release, expected=store.current(), who="test", why="test", now=time.time())
    return release


def in_use(home: Home) -> dict[str, bytes]:
    """The files of the release in use."""
    store = ReleaseStore(home.releases)
    return store.files(store.current() or "")
