"""Shipping: sealed segments go to a sink in the order of their start, each line at least once.

What was acknowledged is noted durably after every batch. A kill, or a broker that is away, costs at most the batch that
was on its way: it is sent again, the same lines in the same order. Compaction leaves segments on disk until every
destination has them.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from decisioning.errors import UserError
from stores.log.columns import DECISIONS, EVENTS, Drop, Kind, kind
from stores.log.cursors import Cursor, Cursors, Place
from stores.log.reader import segment_lines
from stores.log.segments import recover, sealed_segments
from stores.log.sinks import Batch, Message, Sink, SinkDown

Progress = Callable[[int, int], object]


@dataclass
class Shipped:
    """What one shipment sent, by log."""

    to: str
    segments: dict[str, int] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


def ship(
    logs: Path,
    sink: Sink,
    *,
    drop: Drop | None = None,
    progress: Progress = lambda done, total: None,
) -> Shipped:
    """Sends the sealed segments of both logs that the sink has not had. `drop` leaves records out: see `erasures`.

    `progress` is told of segments. Raises UserError where the sink is down (what was acknowledged is noted, the rest
    waits on disk), and while another shipment to it is at work.
    """
    done = Shipped(sink.address)
    with alone(logs, sink.address) as cursors:
        cursor = cursors.read(sink.address)
        cursors.write(cursor)  # from here on, compaction keeps what is not shipped
        todo = [(name, path) for name in (DECISIONS, EVENTS) for path in _waiting(logs / name, cursor)]
        for number, (name, path) in enumerate(todo):
            progress(number, len(todo))
            for lines, place in _sent(kind(name), path, cursor.logs.get(name, Place()), sink, drop):
                cursor = Cursor(cursor.to, {**cursor.logs, name: place})
                cursors.write(cursor)
                done.lines[name] = done.lines.get(name, 0) + lines
            done.segments[name] = done.segments.get(name, 0) + 1
        progress(len(todo), max(1, len(todo)))
    return done


def _waiting(log: Path, cursor: Cursor) -> list[Path]:
    recover(log)
    place = cursor.logs.get(log.name, Place())
    paths = [path for path in sealed_segments(log) if path.name not in place.done]
    return sorted(paths, key=lambda path: path.name != place.segment)  # the one that was begun comes first


def _sent(log: Kind, path: Path, place: Place, sink: Sink, drop: Drop | None) -> Iterator[tuple[int, Place]]:
    """Sends a segment; after each batch, how many lines were sent and how far it is."""
    start = place.lines if place.segment == path.name else 0
    still = frozenset(one.name for one in sealed_segments(path.parent))
    for lines, messages in _batches(log, path, start, sink, drop):
        if messages:
            try:
                sink.send(Batch(log.name, path.name, start, messages))
            except SinkDown as error:
                raise UserError(
                    f"{sink.address} did not take everything ({error}). Nothing is lost: what it acknowledged is "
                    "noted, the rest waits on disk. Run `segue logs ship` again when it is back."
                ) from error
        start += lines
        place = Place(place.done, path.name, start, place.sent + len(messages), time.time())
        yield len(messages), place
    yield 0, Place((place.done & still) | {path.name}, "", 0, place.sent, place.at)


def _batches(log: Kind, path: Path, start: int, sink: Sink, drop: Drop | None) -> Iterator[tuple[int, list[Message]]]:
    """From a line on: how many lines, and the messages that they make. Where batches end depends on lines alone."""
    messages: list[Message] = []
    taken = size = 0
    for line in islice(segment_lines([path]), start, None):
        if taken and (taken == sink.batch_lines or size + len(line) > sink.batch_bytes):
            yield taken, messages
            messages, taken, size = [], 0, 0
        entry = log.entry(line)
        taken += 1
        size += len(line)
        if drop is None or not drop(line, entry):
            messages.append(Message(entry.key, entry.id, line) if entry else Message("", "", line))
    if taken:
        yield taken, messages


@contextmanager
def alone(logs: Path, to: str) -> Iterator[Cursors]:
    """For the only one who ships there. Raises UserError while somebody else does."""
    cursors = Cursors(logs)
    file = cursors.file(to).with_suffix(".lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another process ships to {to}: wait until it ends.") from None
        yield cursors
