"""The memory that all processes of a server share: made by the first of them, before any fork."""

from dataclasses import dataclass
from pathlib import Path

from serving.board import Board


@dataclass(frozen=True, slots=True)
class Shared:
    board: Board
    metrics: Path | None = None
    """The folder in which the workers' figures come together; None for one process alone."""

    @classmethod
    def make(cls, workers: int, metrics: Path | None = None) -> "Shared":
        return cls(Board(workers), metrics)
