"""The logs of a work folder: compacted, shipped and pruned, without the lines of whoever was erased."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from stores.erasing.erasures import read_erasures
from stores.home import Home
from stores.log.columns import DECISIONS, EVENTS
from stores.log.compaction import Compacted, compact
from stores.log.cursors import Cursors
from stores.log.retention import Old, prune
from stores.log.shipping import Shipped, ship
from stores.log.sinks import TIMEOUT, address_of, open_sink, read_settings

Progress = Callable[[int, int], object]
DAY = 86_400


def quietly(done: int, total: int) -> None:
    """The progress of nobody watching."""


def compact_logs(home: Home, *, keep: bool = False, progress: Progress = quietly) -> dict[str, Compacted]:
    """By log. Raises UserError where there is none, and while another compaction is at work."""
    _refuse_nothing(home)
    drop = read_erasures(home.path, home.secret()).drop
    there = [name for name in (DECISIONS, EVENTS) if (home.logs / name).is_dir()]
    return {name: compact(home.logs / name, keep=keep, drop=drop, progress=progress) for name in there}


def ship_logs(
    home: Home, to: str, *, settings: Path | None = None, timeout: float = TIMEOUT, progress: Progress = quietly
) -> Shipped:
    """To the place at an address; `settings`: a file for its client. Raises UserError as `shipping.ship`."""
    _refuse_nothing(home)
    sink = open_sink(to, read_settings(settings) if settings else None, timeout)
    try:
        return ship(home.logs, sink, drop=read_erasures(home.path, home.secret()).drop, progress=progress)
    finally:
        sink.close()


def forget_shipping(home: Home, to: str) -> bool:
    """Compaction waits for this place no more. False where nothing was ever shipped there."""
    return Cursors(home.logs).forget(address_of(to))


def prune_logs(
    home: Home, seconds: float, catalog: Catalog, *, now: float, dry_run: bool = False, force: bool = False
) -> list[Old]:
    """Drops whole days that are older than so many seconds.

    Raises UserError where conversions may still come from younger days than that, by the windows of the catalog, unless
    `force`.
    """
    window = max((group.within for group in catalog.groups.values()), default=0.0)
    if seconds < window and not force:
        raise UserError(
            f"Conversions count for up to {window / DAY:g} days by the catalog: younger decisions still wait for "
            f"theirs, and nothing could be learned from them. Keep at least {ceil(window / DAY)}d, or say --force."
        )
    return prune(home.logs, datetime.fromtimestamp(now - seconds, UTC).date(), now=now, dry_run=dry_run)


def _refuse_nothing(home: Home) -> None:
    if not any((home.logs / name).is_dir() for name in (DECISIONS, EVENTS)):
        raise UserError(f"There is no log in {home.logs} yet: serve some decisions first.")
