"""Files of lines on their way into a day: runs, each in order; and the hash by which lines are told apart."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import mmh3

from stores.log.table import group_lines


def write_run(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)


def lines_in(path: Path) -> Iterator[bytes]:
    """Of a run, or of a part."""
    if path.suffix == ".parquet":
        yield from group_lines(path)
        return
    with path.open("rb") as file:
        for line in file:
            yield line[:-1]


def hash_of(identity: bytes) -> int:
    """64 bits: what differs is different; what doesn't has to be looked at."""
    return mmh3.hash64(identity, signed=False)[0]
