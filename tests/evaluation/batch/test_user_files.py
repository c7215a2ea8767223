"""Files of users: what is taken, what is passed over, and what is refused with its line."""

import resource
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decisioning.errors import UserError
from evaluation.batch.users import join


def taken(office, file: Path, folder: Path, **more):
    """What the file held, and the rows joined."""
    asked = join(file, office.release.catalog, office.snapshot, folder / "users.parquet", with_unknown=True, **more)
    return asked, pq.read_table(folder / "users.parquet").to_pylist()


def refused(office, file: Path, folder: Path) -> str:
    with pytest.raises(UserError) as error:
        taken(office, file, folder)
    assert not (folder / "users.parquet").exists()
    return str(error.value)


def test_users_keep_the_order_of_the_file_and_get_their_features(office, tmp_path):
    ids = ["user-7", "user-299", "user-0"]
    asked, rows = taken(office, office.list_of(tmp_path / "u.csv", ids), tmp_path)
    assert (asked.users, asked.unknown, asked.duplicates) == (3, 0, 0)
    assert [row["user_id"] for row in rows] == ids
    stored = office.snapshot.frame().set_index("user_id")
    assert [row["sessions"] for row in rows] == [
        None if pd.isna(stored.loc[one, "sessions"]) else stored.loc[one, "sessions"] for one in ids
    ]


def test_the_three_kinds_of_files_say_the_same(office, tmp_path):
    ids = list(office.ids[:50])
    (tmp_path / "u.txt").write_text("\n".join([*ids, "", ""]))
    pd.DataFrame({"user_id": ids}).to_parquet(tmp_path / "u.parquet")
    (tmp_path / "headed.txt").write_text("\n".join(["user_id", *ids]))
    files = [
        office.list_of(tmp_path / "u.csv", ids),
        *(tmp_path / name for name in ("u.txt", "headed.txt", "u.parquet")),
    ]
    found = [[row["user_id"] for row in taken(office, file, tmp_path)[1]] for file in files]
    assert found == [ids] * 4


def test_whole_numbers_are_ids_too(office, tmp_path):
    pd.DataFrame({"user_id": [17, 4]}).to_parquet(tmp_path / "u.parquet")
    assert [row["user_id"] for row in taken(office, tmp_path / "u.parquet", tmp_path)[1]] == ["17", "4"]


def test_unknown_users_and_duplicates_are_counted_with_their_lines(office, tmp_path):
    file = office.list_of(tmp_path / "u.csv", ["user-1", "who", "user-2", "user-1", "who", "user-1"])
    asked, rows = taken(office, file, tmp_path)
    assert (asked.users, asked.unknown, asked.duplicates) == (3, 1, 3)
    assert asked.examples == {"unknown": (3,), "duplicates": (5, 6, 7)}
    assert [(row["user_id"], row["known"]) for row in rows] == [("user-1", True), ("who", False), ("user-2", True)]


def test_users_whom_the_snapshot_lacks_can_be_left_out(office, tmp_path):
    file = office.list_of(tmp_path / "u.csv", ["user-1", "who"])
    asked = join(file, office.release.catalog, office.snapshot, tmp_path / "u.parquet", with_unknown=False)
    assert asked.unknown == 1
    assert pq.read_table(tmp_path / "u.parquet").num_rows == 1


def test_of_a_user_who_stands_there_twice_the_first_row_counts(office, tmp_path):
    file = office.list_of(tmp_path / "u.csv", ["user-1", "user-1"], device=["tv", "phone"])
    _, [row] = taken(office, file, tmp_path)
    assert row["sent"] == '{"device": "tv"}'


def test_context_columns_are_taken_and_others_named(office, tmp_path):
    file = office.list_of(tmp_path / "u.csv", ["user-1", "user-2"], device=["tv", ""], e_mail=["a@b", "c@d"])
    asked, rows = taken(office, file, tmp_path)
    assert asked.ignored == ("e_mail",)
    assert [row["sent"] for row in rows] == ['{"device": "tv"}', None]


def test_without_a_file_everybody_is_asked_about(office, tmp_path):
    asked, rows = taken(office, None, tmp_path)
    assert asked.users == len(rows) == 300
    assert all(row["known"] for row in rows)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("user,device\nuser-1,tv\n", r'no column user_id: it has user, device. Did you mean "user"'),
        ("", "no column user_id: it has none"),
        ("user_id;device\nuser-1;tv\n", "it has user_id;device. Put commas between the columns"),
        ("user_id\n", "holds no user"),
        ("user_id,device,user_id\nuser-1,tv,user-2\n", "several columns of one name: user_id"),
        ("user_id,device\nuser-1,tv\n,tv\n", "line 3: there is no user_id"),
        ("user_id,device\nuser-1,tv\n  ,tv\n", "line 3: there is no user_id"),
        ("user_id,device\nuser-1\n", "line 2: it has not as many cells as the header"),
        ("user_id\nuser-1,tv\n", "line 2: it has not as many cells as the header"),
        ('user_id\n"user-1\n', "can't be read"),
        ("user_id\n" + "x" * 300 + "\n", "line 2: the user_id is longer than 256 characters"),
        ("user_id,timezone\nuser-1," + "x" * 300 + "\n", "line 2: timezone is wrong: expected a text"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(office, tmp_path, content, said):
    (tmp_path / "u.csv").write_text(content)
    assert said in refused(office, tmp_path / "u.csv", tmp_path)


@pytest.mark.parametrize(("ids", "kind"), [([1.0, 2.0], "float"), ([b"user-1"], "bytes"), ([["user-1"]], "list")])
def test_ids_that_would_have_to_be_guessed_are_refused(office, tmp_path, ids, kind):
    pq.write_table(pa.table({"user_id": ids}), tmp_path / "u.parquet")
    assert f"row 1: the user_id is of type {kind}" in refused(office, tmp_path / "u.parquet", tmp_path)


def test_a_disk_without_room_is_told_of(office, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        assert "is there room on its disk?" in refused(office, None, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_of_another_kind_is_refused(office, tmp_path):
    (tmp_path / "u.xlsx").write_text("user_id")
    assert ".csv, .parquet or .txt" in refused(office, tmp_path / "u.xlsx", tmp_path)
    (tmp_path / "u.parquet").write_text("user_id")
    assert "can't be read" in refused(office, tmp_path / "u.parquet", tmp_path)
    (tmp_path / "u.csv").write_bytes(b"user_id\n\xff\xfe\n")
    assert "can't be read" in refused(office, tmp_path / "u.csv", tmp_path)
