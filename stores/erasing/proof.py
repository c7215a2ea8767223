"""Looking for what is left of a user: in every file below a home, Parquet and gzip unpacked.

A user key is looked for anywhere, as text and as the 16 bytes that it stands for. An id is looked for between
characters that can't be part of one; one of digits alone, or of fewer than four characters, as a whole value only
(a cell, or a text in quotes): elsewhere it can't be told from any other number.
"""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stores.erasing.files import is_text

BLOCK = 8 * 2**20
SHORT = 4
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
UNREADABLE = "can't be read: it is damaged or not whole"


@dataclass(frozen=True, slots=True)
class Left:
    """Something that was found."""

    file: str
    what: str
    """`id`, `key`, or both; or that nobody can tell."""


@dataclass(frozen=True)
class Search:
    """Who is looked for."""

    id: str
    key: str

    @property
    def is_plain(self) -> bool:
        """Whether the id can be told from other text only where it is a value of its own."""
        return self.id.isdigit() or len(self.id) < SHORT

    @property
    def _as_text(self) -> str:
        around = "[0-9A-Za-z_]"
        return f'"{re.escape(self.id)}"' if self.is_plain else f"(?<!{around}){re.escape(self.id)}(?!{around})"

    def files(self, folder: Path) -> Iterator[Left]:
        """Every file below a folder that holds the id or the key."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                try:
                    found = self.file(path)
                except FileNotFoundError:  # renamed by whoever is at work there
                    continue
                if found:
                    yield Left(str(path.relative_to(folder)), " and ".join(sorted(found)))

    def file(self, path: Path) -> set[str]:
        found = self._bytes(path)
        if path.suffix == ".parquet" or _begins(path, PARQUET):
            try:
                found |= self._parquet(path)
            except (OSError, pa.ArrowException):
                found.add(UNREADABLE)
        return found

    def _bytes(self, path: Path) -> set[str]:
        patterns = self._patterns()
        longest = len(self.id.encode()) + 64
        found: set[str] = set()
        with _opened(path) as file:
            before, block = b"", file.read(BLOCK)
            while block:
                after = file.read(BLOCK)
                text = before + block
                # What touches an end that was cut is judged where both of its neighbours are to be seen.
                inner = range(1 if before else 0, len(text) if after else len(text) + 1)
                for what, pattern in patterns:
                    if any(one.start() in inner and one.end() in inner for one in pattern.finditer(text)):
                        found.add(what)
                before, block = text[-longest:], after
        return found

    def _patterns(self) -> list[tuple[str, re.Pattern[bytes]]]:
        raw = re.escape(bytes.fromhex(self.key))
        return [("id", re.compile(self._as_text.encode())), ("key", re.compile(self.key.encode() + b"|" + raw, re.S))]

    def _parquet(self, path: Path) -> set[str]:
        found: set[str] = set()
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for column in file.read_row_group(group).columns:
                    for text in _texts(column):
                        found |= self._cells(text)
        return found

    def _cells(self, cells: pa.ChunkedArray | pa.Array) -> set[str]:
        found = set()
        if pc.any(pc.match_substring(cells, self.key)).as_py():
            found.add("key")
        if self._has_id(cells):
            found.add("id")
        return found

    def _has_id(self, cells: pa.ChunkedArray | pa.Array) -> bool:
        if pa.types.is_string(cells.type) and pc.any(pc.equal(cells, self.id)).as_py():
            return True
        near = cells.filter(pc.match_substring(cells, self.id))
        pattern = re.compile(self._as_text.encode())
        whole = (cell if isinstance(cell, bytes) else cell.encode() for cell in near.to_pylist())
        return any(pattern.search(cell) for cell in whole)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Unpacked where it really is gzip."""
    with gzip.open(path) if _begins(path, GZIP) else path.open("rb") as file:  # type: ignore[union-attr]
        yield file


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _texts(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray | pa.Array]:
    """The texts and bytes of a column, those in lists, maps and records too."""
    kind = column.type
    if is_text(kind):
        yield column.cast(pa.string())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield column
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(pa.chunked_array([pc.list_flatten(column)]))
    elif pa.types.is_map(kind):
        for chunk in column.chunks:
            yield from _texts(pa.chunked_array([chunk.keys]))
            yield from _texts(pa.chunked_array([chunk.items]))
    elif pa.types.is_struct(kind):
        for part in column.flatten():
            yield from _texts(part)
