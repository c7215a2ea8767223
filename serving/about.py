"""What a server says of itself: what was built, and what this process decides by."""

import os
import time
from importlib.metadata import PackageNotFoundError, version

from decisioning.engine import Release
from serving.processes.board import Row


def build() -> str:
    """What was built: the image's SEGUE_BUILD, else the installed version."""
    if named := os.environ.get("SEGUE_BUILD"):
        return named
    try:
        return version("segue")
    except PackageNotFoundError:
        return "unknown"


def row_of(slot: int, release: Release) -> Row:
    """The row of a worker that has just taken a release."""
    models = {name: scorer.label for name, scorer in sorted(release.scorers.items())}
    ways = {way.name for scorer in release.scorers.values() if (way := getattr(scorer, "way", None)) is not None}
    return Row(
        slot=slot,
        pid=os.getpid(),
        build=build(),
        release=release.id,
        catalog=release.catalog.hash,
        models=models,
        scorer="+".join(sorted(ways)) or "none",
        since=time.time(),
    )
