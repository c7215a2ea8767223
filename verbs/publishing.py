"""`segue features publish | verify | rollback`: what servers read of the users, and whether it is what it should be."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from verbs.options import DEFAULT_HOME, HomeOption, JsonOption, RedisOption, group
from verbs.telling import people, show
from workbench import online_store, snapshot_of

if TYPE_CHECKING:
    from stores.publishing.verifying import Skew

publishing = group()

OtherSchemaOption = Annotated[
    bool, typer.Option("--other-schema", help="Go on although the release in use reads other features.")
]


@publishing.command("publish", epilog="Example: segue features publish --redis-url redis://127.0.0.1:6379")
def features_publish(
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    again: Annotated[bool, typer.Option("--again", help="Write it anew even where it is the one in use.")] = False,
    other_schema: OtherSchemaOption = False,
    allow_eviction: Annotated[
        bool, typer.Option("--allow-eviction", help="Go on although the store drops features when it is full.")
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress", help="Tell of the progress in lines where there is no terminal for a bar.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the current snapshot to the online store: all of it, or nothing. What was interrupted goes on."""
    from stores.publishing.home import publish_features

    where = Home(home)
    options = {"again": again, "other_schema": other_schema, "allow_eviction": allow_eviction}
    with online_store(where, redis_url) as url, Steps(people).step("publish", "Publish the features") as bar:
        told = publish_features(where, url, _Lines() if progress and not people.is_terminal else bar, **options)
    for warning in told.get("warnings", ()):
        people.print(f"[yellow]Warning:[/yellow] {escape(warning)}", soft_wrap=True)
    show(told, as_json)


@publishing.command("rollback", epilog="Example: segue features rollback")
def features_rollback(
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    other_schema: OtherSchemaOption = False,
    as_json: JsonOption = False,
) -> None:
    """Return to the features that were published before the current ones; they are still in the store."""
    from stores.publishing.home import roll_features_back

    where = Home(home)
    with online_store(where, redis_url) as url:
        show(roll_features_back(where, url, other_schema=other_schema), as_json)


@publishing.command("verify", epilog="Example: segue features verify --sample 10000 --last 24h")
def features_verify(
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", help="A snapshot, by id or folder; default: the published one.")
    ] = None,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Users to compare; 0 for all.")] = 1_000,
    last: Annotated[
        str, typer.Option("--last", help="How much of the decision log: a number of decisions, 7d, 24h, or all.")
    ] = "10000",
    as_json: JsonOption = False,
) -> None:
    """Compare features bit for bit: store with snapshot, and logged decisions with the snapshots they were made with.

    Ends with 1 where any differs.
    """
    from evaluation.recorded.traffic import read_last

    read_last(last)  # refused before anything is compared
    where = Home(home)
    with online_store(where, redis_url) as url, Steps(people).step("verify", "Compare the features"):
        store = _of_store(where, url, snapshot, sample or None)
    with Steps(people).step("verify", "Compare the decisions"):
        log = _of_log(where, last)
    show({"store": store, "log": log, "ok": store["ok"] and log["ok"]}, as_json)
    if not (store["ok"] and log["ok"]):
        raise typer.Exit(1)


def _of_store(home: Home, url: str, named: str | None, users: int | None) -> dict[str, Any]:
    from stores.publishing.publish import published
    from stores.publishing.verifying import verify_store

    if named is None:
        version = published(url, namespace=home.namespace)
        if version is None:
            raise UserError("The store holds no features yet: run `segue features publish` first.")
        named = version.name.rpartition("-")[0]
        if not (home.snapshots / named).is_dir():
            raise UserError(
                f"{named}, which is published, is no longer in {home.snapshots}: it was removed, or became another one "
                "when a user was erased. Publish the current snapshot, or name one with --snapshot."
            )
    chosen = snapshot_of(home, named)
    skew = verify_store(url, chosen, home.secret(), users, namespace=home.namespace)
    return {"snapshot": chosen.id, "users": skew.compared, **_told(skew), "lost": skew.lost}


def _of_log(home: Home, last: str) -> dict[str, Any]:
    """An empty log has no skew."""
    from evaluation.recorded.traffic import readable, recorded
    from features.snapshots import read_snapshot
    from stores.log.chunks import latest, lines
    from stores.log.decision_log import decided_at
    from stores.publishing.verifying import verify_log

    folder = home.logs / "decisions"
    traffic = None if latest(folder, decided_at) is None else recorded(folder, last)
    taken = (line for part in (traffic.chunks if traffic else ()) for line in lines(part))
    records = [record for record in readable(taken) if record.request.now >= traffic.since]
    snapshots = (read_snapshot(file.parent) for file in sorted(home.snapshots.glob("[!.]*/manifest.json")))
    skew = verify_log(records, snapshots, home.secret())
    return {"decisions": skew.compared, **_told(skew), "fresh_values": skew.fresh, "uncompared": skew.uncompared}


def _told(skew: "Skew") -> dict[str, Any]:
    named = {one.user: list(one.features) for one in skew.named}
    return {"differing": skew.differing, "by_feature": dict(skew.by_feature), "named": named, "ok": skew.ok}


class _Lines:
    """Progress as plain lines: one for each tenth of the whole at most."""

    def __init__(self) -> None:
        self._told = -1

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if tenth != self._told:
            self._told = tenth
            people.print(f"{done:,} of {total:,} users are in the store ({done / max(1, total):.0%})", highlight=False)
