"""`segue erase`: one user, from everything."""

import time
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.markup import escape

from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, HomeOption, JsonOption, RedisOption, group
from verbs.telling import people, show, who
from workbench import online_store

erasing = group()


@erasing.command(epilog="Example: segue erase --user user-42 --by 'ticket 1234' --dry-run")
def erase(
    user: Annotated[str, typer.Option("--user", help="The user's id, as your systems know it.")],
    by: Annotated[str | None, typer.Option(help="Who asked for it, for the record; default: who you are.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is there.")] = False,
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a user from the dataset, snapshots, online store and logs, then look for what is left.

    Exits with 1 where something is found afterwards. The record holds a keyed hash, the moment, and who asked.
    """
    from stores.erasing.erase import erase as erase_user
    from stores.erasing.erase import find

    where = Home(home)
    has_store = redis_url is not None or where.valkey.is_dir()
    with online_store(where, redis_url) if has_store else nullcontext() as url:
        if dry_run:
            found = find(where, user, url)
        else:
            with Steps(people).step("erase", "Erase, and look for what is left"):
                found = erase_user(where, user, url, who=by or who(), now=time.time())
    told: dict[str, Any] = {
        "dry_run": dry_run,
        "store": None
        if found.store is None
        else {"features": found.store.features, "keys": found.store.keys, "budget_units": found.store.units},
        "log": dict(found.log.lines),
        "rows": found.rows,
    }
    if not dry_run:
        told["left"] = [{"where": one.file, "what": one.what} for one in found.left]
        told["left_in_store"] = found.left_in_store.total
    told["shipped_to"] = found.shipped_to
    if not as_json:
        told["rows"] = [f"{file}: {rows:,}" for file, rows in found.rows.items()]
    show(told, as_json)
    if not (found.rows or found.log.lines or (found.store and found.store.total) or found.left):
        people.print("[yellow]Nothing of this user was there:[/yellow] is it the right id, and the right --home?")
    if dry_run:
        return
    if found.shipped_to:
        people.print(f"[yellow]Shipped before:[/yellow] erase it there too: {escape(', '.join(found.shipped_to))}")
    if not found.ok:
        people.print(
            "[red]Not all of it is gone:[/red] see what is left above, and docs/logs.md for why; then erase again.",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)
