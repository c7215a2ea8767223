"""What a server can't be told: one sentence, before anything is opened."""

from pathlib import Path

import pytest

from decisioning.errors import UserError
from serving.settings import Settings
from stores.home import Home


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"workers": 0}, "--workers can't be 0"),
        ({"workers": 100_000}, "--workers can't be 100000"),
        ({"drain": -1.0}, "--drain can't be -1"),
        ({"drain": float("nan")}, "--drain can't be nan"),
        ({"drain": float("inf")}, "--drain can't be inf"),
    ],
)
def test_what_no_server_can_have_is_refused(told, words):
    with pytest.raises(UserError, match=words):
        Settings(Home(Path("any")), **told)


@pytest.mark.parametrize(
    "harm", [lambda home: home.write_text("a file"), lambda home: (home / "secret.key").mkdir(parents=True)]
)
def test_a_work_folder_that_can_hold_no_key_is_one_sentence(tmp_path, monkeypatch, harm):
    monkeypatch.delenv("SEGUE_SECRET", raising=False)
    harm(tmp_path / "home")
    with pytest.raises(UserError, match=r"secret\.key can't be read or made .* choose another --home"):
        Home(tmp_path / "home").secret()


def test_a_key_of_bytes_that_are_no_text_is_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGUE_SECRET", raising=False)
    (tmp_path / "secret.key").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no key"):
        Home(tmp_path).secret()
