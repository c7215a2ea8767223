"""Small snapshots on disk, written by the hand that writes all of them."""

from pathlib import Path

import pyarrow as pa

from decisioning.catalog import FeatureSpec, FeatureType
from features.schema import Schema
from features.snapshot_files import Snapshot, arrow_schema, write_manifest, write_parts

SECRET = b"a secret of 16 b"
SCHEMA = Schema(
    (
        FeatureSpec("minutes", FeatureType.FLOAT),
        FeatureSpec("sessions", FeatureType.INT),
        FeatureSpec("tier", FeatureType.ENUM, values=("free", "premium")),
    )
)


def write(
    folder: Path, rows: int, schema: Schema = SCHEMA, batch: int = 70, id: str = "one", shift: int = 0
) -> Snapshot:
    """Of one part, in row groups of `batch` rows. `shift` is added to everybody's sessions."""
    folder.mkdir(parents=True)
    fields = arrow_schema(schema.specs)
    table = {
        "user_id": [f"user{number:05d}" for number in range(rows)],
        "minutes": [None if number % 7 == 0 else number / 3 for number in range(rows)],
        "sessions": list(range(shift, rows + shift)),
        "tier": ["free" if number % 2 else "premium" for number in range(rows)],
        "visits": list(range(rows)),
    }
    columns = pa.table({name: table[name] for name in fields.names}, schema=fields)
    parts, written = write_parts(folder, schema, columns.to_batches(max_chunksize=batch))
    told = {"id": id, "as_of": "2026-11-01T00:00:00+00:00", "rows": written, "schema": schema.to_json(), "parts": parts}
    write_manifest(folder, told)
    return Snapshot(folder, told)
