"""`segue keys` as people use it: a key is shown once, everything else is told as often as one likes."""

import json
import re
import stat
from pathlib import Path

import pytest

from demo_check import Client
from stores.home import Home
from workbench import visitors_key


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Home:
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEGUE_KEYS", raising=False)
    return Home(tmp_path / "home")


def test_a_key_is_made_shown_once_listed_without_it_rotated_and_revoked(here, home):
    code, made, said = here("keys", "add", "ios-app", "--scope", "decide", "--scope", "events", "--limit", "500/s")
    assert code == 0
    assert re.fullmatch(r"segue_[A-Za-z0-9_-]{43}\n", made), "standard output is the key alone"
    assert made.strip() not in said
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o600

    code, made_again, _ = here("keys", "rotate", "ios-app", "--expires", "90d", "--json")
    second = json.loads(made_again)
    assert second["client"] == "ios-app"

    _, listed, _ = here("keys", "list")
    assert "ios-app: decide, events; 500/s; " in listed
    _, text, _ = here("keys", "list", "--json")
    (client,) = json.loads(text)["clients"]
    assert (client["scopes"], client["limit"]) == (["decide", "events"], "500/s")
    assert [one["expires_at"] is None for one in client["keys"]] == [True, False]
    for secret in (made.strip(), second["key"]):
        assert secret not in listed + text + home.keys.read_text()

    code, _, said = here("keys", "rotate", "ios-app")
    assert code == 2
    assert f"segue keys revoke ios-app ID` with {client['keys'][0]['id']}" in said
    code, _, _ = here("keys", "revoke", "ios-app", client["keys"][0]["id"])
    assert code == 0
    code, told, said = here("keys", "revoke", "ios-app", "--json")
    assert json.loads(told) == {"client": "ios-app", "revoked": [second["id"]], "left": []}
    assert "servers answer nobody" in said
    _, _, said = here("keys", "list")
    assert "The last key was revoked" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "x", "--scope", "admin"], "no scope admin. There are: decide, events, explain, metrics"),
        (["add", "x", "--scope", "explain"], "name decide, too"),
        (["add", "X Y", "--scope", "decide"], "small letters"),
        (["add", "x", "--scope", "decide", "--limit", "fast"], "--limit can't be fast: write it as 500/s"),
        (["add", "x", "--scope", "decide", "--expires", "soon"], "--expires can't be soon: write it as 12h"),
        (["change", "x"], "--scope or --limit"),
        (["change", "x", "--limit", "5/s"], "no client x"),
        (["rotate", "x"], "no client x. There are: none"),
        (["revoke", "x"], "no client x"),
    ],
)
def test_a_mistake_gets_one_message_and_makes_no_key(here, home, words, told):
    code, out, said = here("keys", *words)
    assert (code, out) == (2, "")
    assert told in " ".join(said.split())
    assert not home.keys.exists() or "sha256" not in home.keys.read_text()


def test_what_a_client_may_do_is_changed_without_a_new_key(here, home):
    here("keys", "add", "tv", "--scope", "decide")
    _, out, _ = here("keys", "change", "tv", "--limit", "1000/s", "--json")
    assert json.loads(out) == {"name": "tv", "scopes": ["decide"], "limit": "1000/s"}
    _, out, _ = here("keys", "change", "tv", "--scope", "decide", "--scope", "metrics", "--json")
    assert json.loads(out) == {"name": "tv", "scopes": ["decide", "metrics"], "limit": "1000/s"}
    _, out, _ = here("keys", "change", "tv", "--limit", "none", "--json")
    assert json.loads(out)["limit"] is None


def test_a_damaged_file_is_told_and_left_alone(here, home):
    home.path.mkdir()
    home.keys.write_text('{"version": 1, "clients": [')
    for words in (["list"], ["add", "x", "--scope", "decide"], ["rotate", "x"], ["revoke", "x"]):
        code, _, said = here("keys", *words)
        assert code == 2
        assert "can't be used" in said
    assert home.keys.read_text() == '{"version": 1, "clients": ['


def test_another_file_may_be_named(here, home, tmp_path):
    elsewhere = tmp_path / "mounted" / "keys.json"
    here("keys", "add", "tv", "--scope", "decide", "--keys", elsewhere)
    assert elsewhere.exists()
    assert not home.keys.exists()
    _, _, said = here("keys", "list")
    assert "servers answer everybody" in said


def test_the_tour_gets_a_key_of_its_own_where_keys_are_asked_for_and_gives_it_back(here, home):
    with visitors_key(home, "test", 0.0) as key:
        assert key is None
    here("keys", "add", "tv", "--scope", "decide")
    before = home.keys.read_bytes()
    with visitors_key(home, "test", 0.0) as key:
        assert Client("http://127.0.0.1:1", key).key.startswith("segue_")
        assert home.keys.read_bytes() != before
    assert home.keys.read_bytes() == before
