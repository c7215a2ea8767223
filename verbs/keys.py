"""`segue keys`: who may call the API, with which key, how fast."""

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decisioning.errors import UserError
from stores.home import Home
from verbs.options import DEFAULT_HOME, HomeOption, JsonOption, KeysOption, group
from verbs.telling import people, show, who

if TYPE_CHECKING:
    from stores.api_keys import Client, Key
    from stores.key_file import Issued, KeyFile

keys = group("API keys: who may ask for decisions and report events. Servers follow within a second.")

_SPANS = {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0}

NameArgument = Annotated[str, typer.Argument(help="The client, such as ios-app.")]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", help="After how long the key is no longer good: 12h, 90d, 52w. Default: never."),
]


@keys.command(epilog="Example: segue keys add ios-app --scope decide --scope events --limit 500/s")
def add(
    name: NameArgument,
    scope: Annotated[
        list[str], typer.Option("--scope", help="decide, events, explain (with decide), metrics; repeatable.")
    ],
    limit: Annotated[
        str | None,
        typer.Option(help="Requests that its keys may make: 500/s, 1000/m, 20000/h, 100000/d. Default: any."),
    ] = None,
    expires: ExpiresOption = None,
    file: KeysOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a client's first key. It is shown this once; what is kept is a hash of it.

    With the first key of all, servers of this work folder stop answering those who have none.
    """
    from stores.api_keys import parse_limit

    _check(scope)
    now, room = time.time(), parse_limit(limit) if limit is not None else None
    store = _file(home, file)
    issued = store.add(name, scope, limit=room, expires_at=_expiry(expires, now), who=who(), now=now)
    _show_new(issued, store, as_json)


@keys.command("list", epilog="Example: segue keys list --json")
def list_keys(file: KeysOption = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show every client with its scopes, its limit and its keys: their ids and ages, never the keys."""
    store, now = _file(home, file), time.time()
    told = [_client(client, now) for client in store.clients()]
    if as_json:
        show({"file": str(store.path), "is_there": store.path.exists(), "clients": told}, as_json)
        return
    for client in told:
        made = [f"{key['id']} of {key['made_at']} by {key['made_by']}{_until(key)}" for key in client["keys"]]
        show(
            {client["name"]: f"{', '.join(client['scopes'])}; {client['limit'] or 'no limit'}; {'; '.join(made)}"},
            False,
        )
    if not told:
        closed = f"The last key was revoked: servers with {store.path} answer nobody."
        people.print(closed if store.path.exists() else "There are no keys: servers answer everybody.", soft_wrap=True)


@keys.command(epilog="Example: segue keys change ios-app --limit 1000/s")
def change(
    name: NameArgument,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="All that its keys may do from now on; repeatable. Default: the same."),
    ] = None,
    limit: Annotated[str | None, typer.Option(help="500/s and so on, or none. Default: the same.")] = None,
    file: KeysOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give a client other scopes or another limit. Its keys stay."""
    from stores.api_keys import parse_limit

    if scope is None and limit is None:
        raise UserError("Say what to change: --scope or --limit.")
    if scope is not None:
        _check(scope)
    room = None if limit in (None, "none") else parse_limit(limit)
    client = _file(home, file).change(name, scopes=scope, limit=room, unlimited=limit == "none")
    changed = _client(client, time.time())
    show({key: changed[key] for key in ("name", "scopes", "limit")}, as_json)


@keys.command(epilog="Example: segue keys rotate ios-app")
def rotate(
    name: NameArgument,
    expires: ExpiresOption = None,
    file: KeysOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a client's second key. Both are good until one is revoked; a third needs that first."""
    now, store = time.time(), _file(home, file)
    _show_new(store.rotate(name, expires_at=_expiry(expires, now), who=who(), now=now), store, as_json)


@keys.command(epilog="Example: segue keys revoke ios-app 3f9a01bc")
def revoke(
    name: NameArgument,
    key_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One of its keys; default: all of them.")] = None,
    file: KeysOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take one key of a client away, or all of them and the client with them. Nothing brings a key back."""
    store = _file(home, file)
    gone = store.revoke(name, key_id)
    left = {client.name: [key.id for key in client.keys] for client in store.clients()}
    show({"client": name, "revoked": [key.id for key in gone], "left": left.get(name, [])}, as_json)
    if not left:
        people.print("That was the last key of all: servers answer nobody until there is another.", soft_wrap=True)


def _check(scopes: list[str]) -> None:
    from stores.api_keys import DECIDE, EXPLAIN, SCOPES

    unknown = [one for one in scopes if one not in SCOPES]
    if unknown:
        raise UserError(f"There is no scope {unknown[0]}. There are: {', '.join(SCOPES)}.")
    if EXPLAIN in scopes and DECIDE not in scopes:
        raise UserError("The scope explain is for decisions: name decide, too.")


def _file(home: Path, chosen: Path | None) -> "KeyFile":
    from stores.key_file import KeyFile

    return KeyFile(chosen or Home(home).keys)


def _show_new(issued: "Issued", store: "KeyFile", as_json: bool) -> None:
    """The one moment in which a key can be read."""
    told = {"client": issued.client.name, "id": issued.key.id, "key": issued.text}
    if as_json:
        show({**told, "file": str(store.path)}, as_json)
        return
    sys.stdout.write(f"{issued.text}\n")
    people.print(
        f"This is key {issued.key.id} of {issued.client.name}, shown only now. Send it with each request as "
        f"[bold]Authorization: Bearer {issued.text[:10]}…[/bold] ({store.path} keeps a hash of it).",
        highlight=False,
        soft_wrap=True,
    )


def _client(client: "Client", now: float) -> dict[str, Any]:
    return {
        "name": client.name,
        "scopes": list(client.scopes),
        "limit": str(client.limit) if client.limit else None,
        "keys": [_key(key, now) for key in client.keys],
    }


def _key(key: "Key", now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "made_at": _moment(key.made_at),
        "made_by": key.made_by,
        "expires_at": None if key.expires_at is None else _moment(key.expires_at),
        "is_active": key.is_active(now),
    }


def _until(key: dict[str, Any]) -> str:
    if key["expires_at"] is None:
        return ""
    return f", until {key['expires_at']}" if key["is_active"] else f", expired on {key['expires_at']}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,3})([hdw])", text.strip(), re.ASCII)
    if found is None:
        raise UserError(f"--expires can't be {text}: write it as 12h, 90d or 52w.")
    return now + int(found[1]) * _SPANS[found[2]]
