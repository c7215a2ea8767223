"""The scout: a process that looks at the pointer to the release in use, and tries each new one before any worker does.

One for a machine's server, so that a release is tried once and all workers hear the same verdict, from the board.
"""

import select
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from serving.processes.board import Board, Verdict
from serving.processes.cage import Abandoned, refusal
from serving.processes.trial import examine
from stores.releases import ReleaseStore

LOOK_EVERY = 0.05
RETRY_AFTER = 10.0
"""Seconds before a release that was refused is tried again: its files may only just be on their way."""
MOST_EARLIER = 5
"""Releases used before the current one that are tried where that one can't be used at the start."""

log = structlog.get_logger()

Try = Callable[[ReleaseStore, str], str | None]


def caged(releases: ReleaseStore, release_id: str, leash: int | None = None) -> str | None:
    """Why a release is refused; None for one that is good. Raises Abandoned where the pipe `leash` calls it off."""
    return refusal(lambda: examine(releases, release_id), leash=leash)


def follow(releases: ReleaseStore, board: Board, leash: int) -> None:
    """Looks until the pipe `leash` has an order, or its other end is closed: the supervisor has done, or is gone."""
    scout = Scout(releases, board, partial(caged, leash=leash))
    with suppress(Abandoned):
        scout.look()
        while not select.select([leash], [], [], LOOK_EVERY)[0]:
            scout.look()


class Scout:
    """Follows `current`. A release that is refused changes nothing for the workers."""

    def __init__(self, releases: ReleaseStore, board: Board, attempt: Try = caged) -> None:
        self._releases, self._board, self._attempt = releases, board, attempt
        self._retry_at = 0.0

    def look(self) -> None:
        """Looks once; tries what is new, and says so on the board."""
        before = self._board.verdict()
        try:
            wanted = self._releases.current() or ""
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(before, "", f"the pointer to the release in use can't be read: {error}")
            return
        if wanted == before.approved:
            if not before.decided or before.refused:
                self._board.judge(Verdict(decided=True, approved=wanted, refusals=before.refusals))
            return
        if not wanted or (wanted == before.refused and time.monotonic() < self._retry_at):
            return
        why = self._attempt(self._releases, wanted)
        if why is None:
            self._board.judge(Verdict(decided=True, approved=wanted, refusals=before.refusals))
        else:
            self._refuse(before, wanted, why)

    def _refuse(self, before: Verdict, refused: str, why: str) -> None:
        """What is in use stays in use; where nothing is yet, what was in use before."""
        self._retry_at = time.monotonic() + RETRY_AFTER
        is_new = not before.decided or (refused, why) != (before.refused, before.why)
        if not is_new:
            return
        approved = before.approved if before.decided else self._earlier(refused)
        log.error("release_refused", release=refused, why=why, kept=approved or "none")
        self._board.judge(
            Verdict(decided=True, approved=approved, refused=refused, why=why, refusals=before.refusals + 1)
        )

    def _earlier(self, refused: str) -> str:
        """The latest good release of those that were in use before; empty where there is none."""
        with suppress(Exception):  # whatever is wrong with the history: then the rules decide
            for release_id in self._releases.earlier()[:MOST_EARLIER]:
                if release_id != refused and self._attempt(self._releases, release_id) is None:
                    return release_id
        return ""
