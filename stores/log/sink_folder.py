"""A folder of Parquet files as a sink, here or in a bucket: `<log>/day=2026-11-22/<batch>.parquet`.

A batch that is sent again has the same name and takes its own place, so that nothing is there twice.
"""

import os
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from decisioning.errors import UserError
from stores.log.columns import Kind, day_of, kind
from stores.log.sinks import Batch, SinkDown, address_of
from stores.log.table import NO_DAY, sync_folder


class FolderSink:
    """`address`: a folder, or an address that pyarrow has a file system for (file, s3, gs, hdfs)."""

    batch_bytes = 64 * 2**20
    batch_lines = 100_000

    def __init__(self, address: str) -> None:
        try:
            if "://" in address:
                self._files, self._root = fs.FileSystem.from_uri(address)
            else:
                self._files, self._root = fs.LocalFileSystem(), address_of(address)
        except (pa.ArrowException, ValueError, OSError) as error:
            said = str(error).replace(address, address_of(address))
            raise UserError(f"{address_of(address)} is no folder that logs can be shipped to ({said}).") from None
        self.address = address_of(address)

    def send(self, batch: Batch) -> None:
        log = kind(batch.log)
        days: dict[str, list[bytes]] = defaultdict(list)
        for message in batch.messages:
            days[str(day_of(log.entry(message.line)) or NO_DAY)].append(message.line)
        try:
            for day, lines in days.items():
                self._put(f"{self._root}/{batch.log}/day={day}", f"{batch.name}.parquet", _parquet(log, lines))
        except (pa.ArrowException, OSError) as error:
            raise SinkDown(str(error).strip().splitlines()[0]) from error

    def close(self) -> None:
        pass

    def _put(self, folder: str, name: str, content: pa.Buffer) -> None:
        if not isinstance(self._files, fs.LocalFileSystem):
            self._files.create_dir(folder, recursive=True)
            with self._files.open_output_stream(f"{folder}/{name}") as stream:  # a bucket shows it once it is whole
                stream.write(content)
            return
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{name}.draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)


def _parquet(log: Kind, lines: list[bytes]) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    pq.write_table(log.table(lines), stream, compression="zstd")
    return stream.getvalue()
