"""`segue score` and `segue decide-all`, as a person at a terminal uses them."""

import pyarrow.parquet as pq
import pytest
from post_office import post_office


@pytest.fixture(scope="module")
def office(terminal):
    return post_office(terminal.home)


def test_everybody_is_scored(terminal, office, tmp_path):
    manifest = terminal.json("score", "--surface", "push", "--out", tmp_path / "scores", "--top", 2)
    assert manifest["tally"]["users"] == 300
    table = pq.read_table(tmp_path / "scores")
    assert table.num_rows == 600


def test_a_campaign_is_decided_logged_and_replayed(terminal, office, tmp_path):
    users = office.list_of(tmp_path / "users.csv", ["user-1", "nobody", "user-2", "user-1"], e_mail=["a"] * 4)
    words = ("decide-all", "--surface", "mail", "--users", users, "--out", tmp_path / "mails")
    told = terminal.segue(*words, "--at", "2027-01-15T09:00:00")
    assert "users: 3" in told
    assert pq.read_table(tmp_path / "mails").column("user_id").to_pylist() == ["user-1", "nobody", "user-2"]
    assert terminal.json("replay", "--last", "all")["identical"] == 3


def test_mistakes_are_told_in_a_sentence_and_leave_nothing_behind(terminal, office, tmp_path):
    out = ("--out", tmp_path / "out")
    assert 'Did you mean "push"' in terminal.segue("score", "--surface", "pusk", *out, expect=2)
    assert "no user_id" in terminal.segue("decide-all", "--surface", "push", *out, "--users", bad(tmp_path), expect=2)
    assert "is no release" in terminal.segue("score", "--surface", "push", *out, "--release", "latest", expect=2)
    assert not list(tmp_path.glob("out/*.parquet"))
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_without_a_release_or_a_snapshot_it_says_what_to_do(terminal, office, tmp_path):
    words = ("score", "--surface", "push", "--out", tmp_path / "out")
    assert "segue train" in terminal.segue(*words, "--home", tmp_path / "empty", expect=2)
    assert "segue features build" in terminal.segue(*words, "--snapshot", "yesterday", expect=2)


def bad(folder):
    (folder / "bad.csv").write_text("user_id\nuser-1\n  \n")
    return folder / "bad.csv"
