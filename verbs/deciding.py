"""`segue serve | decide | explain | kill | revive | replay`: offers for users, and what was decided."""

import json
import sys
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from stores.home import Home
from terminal import Steps
from verbs.options import (
    DEFAULT_HOME,
    EngineOption,
    HomeOption,
    JsonOption,
    KeysOption,
    LastOption,
    RedisOption,
    WhyOption,
    WorkersOption,
    group,
)
from verbs.telling import people, show, who
from workbench import catalog_folder, current_release, load_catalog_of, online_store

deciding = group()
MOST_REASONS = 12
"""How many offers `segue decide` speaks of without --explain."""


@deciding.command(epilog="Example: segue serve --port 8080")
def serve(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="The folder of rules to decide by while there is no release.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, envvar="SEGUE_WORKERS", help="Processes; one a core.")] = 1,
    drain: Annotated[
        float, typer.Option(min=0.0, envvar="SEGUE_DRAIN", help="Seconds to answer on after SIGTERM, not ready.")
    ] = 1.0,
    keys: KeysOption = None,
    open_to_all: Annotated[
        bool, typer.Option("--open", envvar="SEGUE_OPEN", help="Listen for strangers although there are no keys.")
    ] = False,
    redis_url: RedisOption = None,
) -> None:
    """Serve decisions until Ctrl-C: by the release in use; while there is none, by the rules alone of --catalog.

    SIGTERM drains, SIGHUP replaces the workers one by one. Callers need a key once there is one: `segue keys add`.
    """
    from serving.processes.supervisor import serve as serve_by_workers
    from serving.settings import Settings

    where = Home(home)
    if catalog is not None and not catalog.is_dir():
        raise UserError(f"There is no catalog folder {catalog}: name another with --catalog.")
    if catalog is None and not (where.releases / "current").is_file():
        raise UserError(
            f"There is no release in {where.releases} yet: run `segue train` and `segue promote`, or serve by the "
            "rules alone with --catalog DIR."
        )
    with online_store(where, redis_url) as url:
        rules = catalog_folder(where, catalog)
        settings = Settings(
            where,
            host,
            port,
            url,
            catalog=rules,
            keys=keys,
            open_to_all=open_to_all,
            drain=drain,
            workers=workers,
        )
        serve_by_workers(settings, on_ready=welcome)


@deciding.command(epilog="Example: segue decide user-42 home_banner --context country=SE --explain")
def decide(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    surface: Annotated[str, typer.Argument(help="Where the offer would be shown.")],
    context: Annotated[
        list[str] | None, typer.Option(help="name=value, as the client would send it; repeatable.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Fewer slots than the surface has.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Decide by a draft of the rules instead.")] = None,
    why: Annotated[bool, typer.Option("--explain", help="Every offer's fate, and what would have shown it.")] = False,
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide for one user and say why, and why not each of the others. Nothing is logged or counted.

    On a sticky surface this is the answer that the server gives, or would give, in this period.
    """
    from dataclasses import replace

    from decisioning.domain import Request
    from decisioning.engine import decide
    from decisioning.explain import explain
    from decisioning.identity import decision_id, user_key
    from stores.log.decision_log import to_json
    from stores.online.sticky import again
    from terminal import decision_words
    from workbench import read_context, read_user

    where = Home(home)
    release = current_release(where)
    if catalog is not None:
        release = replace(release, id="draft", catalog=load_catalog_of(where, catalog))
    known = release.catalog.surfaces.get(surface)
    if known is None:
        raise UserError(f"There is no surface {surface}. {did_you_mean(surface, release.catalog.surfaces)}".rstrip())
    if slots is not None and slots > known.slots:
        raise UserError(f"--slots {slots} is more than {surface} has: {known.slots}.")
    if not user.strip():
        raise UserError("The user's id is empty.")
    key, now = user_key(where.secret(), user), time.time()
    request = Request(
        decision_id=decision_id(key, surface, now, known.sticky, lambda: uuid.uuid4().hex),
        user=key,
        surface=surface,
        now=now,
        context=read_context(release.catalog, context or []),
        slots=slots,
    )
    with online_store(where, redis_url) as url:
        facts, given = read_user(where, url, release.catalog, request)
    kept = again(release, known, request, facts, given) if catalog is None else None
    decision = kept or decide(release, request, facts)
    if as_json:
        sys.stdout.write(to_json(decision) + "\n")
        return
    explanation = explain(release, request, facts, decision)
    most = None if why else MOST_REASONS
    for line in decision_words(release.catalog, decision, explanation, most=most, changes=why):
        Console(soft_wrap=True, highlight=False).print(line)


@deciding.command(epilog="Example: segue explain 5f0c6b3e8a5f4f0d8e0f3f7a6f1c2d4b.home_banner")
def explain(
    decision: Annotated[str, typer.Argument(help="The decision's id, as the answer gave it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Explain a decision of the past from the log alone: what was shown and why, and why not each of the others.

    Ends with every clause, guard and invariant that said no, read from the decision's truth word.
    """
    from decisioning.engine import decide
    from decisioning.explain import decoded, explain
    from stores.log.decision_log import canonical, to_json
    from terminal import clause_words, decision_words
    from workbench import logged_decision, release_of

    where = Home(home)
    record = logged_decision(where, decision)
    release = release_of(where, record.decision.release)
    explanation = explain(release, record.request, record.facts, record.decision)
    clauses = decoded(release, record.decision)
    same = canonical(decide(release, record.request, record.facts)) == canonical(record.decision)
    if as_json:
        fates = [{**asdict(one), "stage": str(one.stage)} for one in explanation.fates]
        said_no = {name: [{"detail": c.detail, "where": str(c.place)} for c in cs] for name, cs in clauses.items()}
        told = {"identical": same, "decision": json.loads(to_json(record.decision)), "reasons": fates}
        show({**told, "said_no": said_no}, as_json)
        return
    out = Console(soft_wrap=True, highlight=False)
    for line in decision_words(release.catalog, record.decision, explanation, changes=True):
        out.print(line)
    for line in clause_words(clauses):
        out.print(line)
    if not same:
        people.print("[yellow]Warning:[/yellow] made again, this decision comes out otherwise: see `segue replay`.")


@deciding.command(epilog="Example: segue kill premium_annual --why 'wrong price'; segue kill --list")
def kill(
    offer: Annotated[str | None, typer.Argument(help="The offer to turn off everywhere.")] = None,
    why: WhyOption = "",
    listing: Annotated[bool, typer.Option("--list", help="Show the offers that are off.")] = False,
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an offer off everywhere, within a second and without a release."""
    from workbench import killed_offers, switch_offer

    if (offer is None) != listing:
        raise UserError("Name the offer to turn off, or say --list: one of the two.")
    if offer is not None and not why.strip():
        raise UserError(f"Say why, for the record: segue kill {offer} --why '…'.")
    where = Home(home)
    with online_store(where, redis_url) as url:
        if offer is not None:
            show(switch_offer(where, url, offer, kill=True, who=who(), why=why, now=time.time()), as_json)
            return
        off = killed_offers(where, url)
    told = {row["offer"]: f"since {row['at']}, by {row['who']}: {row['why']}" if row["at"] else "off" for row in off}
    show({"killed": off} if as_json else told or {"killed": "none"}, as_json)


@deciding.command(epilog="Example: segue revive premium_annual --why 'the price is right again'")
def revive(
    offer: Annotated[str, typer.Argument(help="The offer to turn on again.")],
    why: WhyOption = "",
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an offer on again that was killed."""
    from workbench import switch_offer

    where = Home(home)
    with online_store(where, redis_url) as url:
        show(switch_offer(where, url, offer, kill=False, who=who(), why=why, now=time.time()), as_json)


@deciding.command(epilog="Example: segue replay --last 7d")
def replay(
    last: LastOption = "1000",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run recorded decisions again: all of them must come out identical, to the byte.

    Exits with 0 where they do, 1 where one does not or its release is gone, 3 where they do, but what was shown is not
    what the log's own probabilities say, and 2 where there is nothing to replay.
    """
    from scaling.engines import engine_of
    from workbench import replay_log

    with Steps(people).step("replay", "Decide again", "megabytes") as progress, engine_of(engine, workers) as working:
        report = replay_log(Home(home), last, progress, working)
    show(report, as_json)
    if not report["ok"]:
        raise typer.Exit(1)
    if report["log"] != "ok":
        raise typer.Exit(3)


def welcome(address: str) -> None:
    """Told to a person who watches; machines read the log."""
    if people.is_terminal:
        people.print(f"Serving on {address} (try {address}/docs). Ctrl-C stops.", highlight=False)
