"""Files in parts: every row in one of them, in order, whatever the row groups."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.errors import UserError
from evaluation.batch.parts import Part, batches, parts_of


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    group=st.integers(1, 30),
    most=st.integers(1, 40),
    batch=st.integers(1, 20),
)
def test_every_row_is_in_one_part_and_in_its_place(tmp_path_factory, sizes, group, most, batch):
    folder, rows = tmp_path_factory.mktemp("files"), 0
    files = [folder / f"{number}.parquet" for number in range(len(sizes))]
    for path, size in zip(files, sizes, strict=True):
        pq.write_table(pa.table({"row": pa.array(range(rows, rows + size), pa.int64())}), path, row_group_size=group)
        rows += size
    parts = parts_of(files, most)
    assert [part.number for part in parts] == list(range(len(parts)))
    read = [
        [row for found in batches(part, ["row"], batch) for row in found.column("row").to_pylist()] for part in parts
    ]
    assert [row for part in read for row in part] == list(range(rows))
    assert [len(part) for part in read] == [part.rows for part in parts]
    assert all(0 < part.rows <= most for part in parts)


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        next(batches(Part(0, tmp_path / "gone.parquet", 0, 5), ["row"]))
