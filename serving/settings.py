"""What a server is told when it starts: by the command line, by the environment, or by a test."""

from dataclasses import dataclass
from pathlib import Path

from decisioning.errors import UserError
from stores.home import Home

DRAIN = 1.0
"""Seconds for which `/readyz` says 503 while requests are still answered, so that a load balancer can look away."""
LONGEST_DRAIN = 3600.0
MOST_WORKERS = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """Paths default to those of `home`. Without `redis_url`, history and caps live in one process's memory.

    Raises UserError for workers or a drain that no server can have.
    """

    home: Home
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    redis_url: str | None = None
    releases: Path | None = None
    logs: Path | None = None
    catalog: Path | None = None
    """Rules to decide by as long as there is no release."""
    keys: Path | None = None
    """The file of API keys, which must be there; else the one of `home`, if it is there."""
    open_to_all: bool = False
    """Whether a server without keys may listen where others can reach it."""
    drain: float = DRAIN
    workers: int = 1
    quiet: bool = False
    """Log warnings and errors only."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UserError(f"--workers can't be {self.workers}: choose from 1 to {MOST_WORKERS}, one for each core.")
        if not 0.0 <= self.drain <= LONGEST_DRAIN:  # no number is refused, too
            raise UserError(f"--drain can't be {self.drain:g}: choose from 0 to {LONGEST_DRAIN:g} seconds.")

    @property
    def releases_folder(self) -> Path:
        return self.releases or self.home.releases

    @property
    def keys_file(self) -> Path:
        return self.keys or self.home.keys

    @property
    def logs_folder(self) -> Path:
        return self.logs or self.home.logs

    @property
    def catalog_folder(self) -> Path:
        return self.catalog or self.home.catalog
