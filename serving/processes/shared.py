"""The memory that all processes of a server share: made by the first of them, before any fork."""

from dataclasses import dataclass
from pathlib import Path

from serving.access import Access, guard_exposure
from serving.limits import Counts
from serving.processes.board import Board
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Shared:
    board: Board
    access: Access
    """Who may call. A worker has the keys that the first process knew when it was forked, and goes on from there."""
    metrics: Path | None = None
    """The folder in which the workers' figures come together; None for one process alone."""

    @classmethod
    def make(cls, settings: Settings, metrics: Path | None = None) -> "Shared":
        """Raises UserError for a server that would answer strangers without having been told to."""
        board = Board(settings.workers)
        counts = Counts(workers=1 + len(board.places))
        access = Access(settings.keys_file, required=settings.keys is not None, counts=counts)
        access.refresh()
        guard_exposure(settings.host, access, open_to_all=settings.open_to_all)
        return cls(board, access, metrics)
