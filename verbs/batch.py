"""`segue score | decide-all`: all users at once, for e-mail and push."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from stores.home import Home
from terminal import Steps
from verbs.options import (
    DEFAULT_HOME,
    EngineOption,
    HomeOption,
    JsonOption,
    ModelOption,
    RedisOption,
    WorkersOption,
    group,
)
from verbs.telling import people, show
from workbench import snapshot_of

batch = group()

SurfaceOption = Annotated[str, typer.Option("--surface", help="Where the offers would be shown, such as push.")]
OutOption = Annotated[Path, typer.Option("--out", help="A new folder for the Parquet files; or one to go on in.")]
UsersOption = Annotated[
    Path | None,
    typer.Option("--users", help="CSV, Parquet or text with a user_id column; default: all of the snapshot."),
]
SnapshotOption = Annotated[str | None, typer.Option("--snapshot", help="A snapshot by id; default: the current one.")]
ReleaseOption = Annotated[str | None, typer.Option("--release", help="A release by id; default: the one in use.")]
AtOption = Annotated[datetime | None, typer.Option("--at", help="As of this moment (UTC); default: now.")]
FIRST = ("users", "rows", "shown", "offers", "nothing", "sources", "degraded")
"""What is told first of a tally, in this order, also of one that comes from a manifest."""
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace another result in --out.")]


@batch.command(epilog="Example: segue score --surface push --out scores --top 3")
def score(
    surface: SurfaceOption,
    out: OutOption,
    users: UsersOption = None,
    top: Annotated[int | None, typer.Option("--top", help="The best so many offers of each user alone.")] = None,
    snapshot: SnapshotOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Another version of the model: a number, champion or challenger.")
    ] = None,
    at: AtOption = None,
    replace: ReplaceOption = False,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Score all users for all offers of a surface, to Parquet. Rules, caps and exploration are no part of it.

    The same command again goes on where it was interrupted, and changes nothing where all is done.
    """
    from evaluation.batch.jobs import Question, score_all
    from scaling.engines import engine_of
    from verbs.batch_sources import release_loader

    where = Home(home)
    load = release_loader(where, release, model, version)
    asked = Question(load, surface, snapshot_of(where, snapshot), users, out, _moment(at), replace)
    steps = Steps(people)
    with steps.step("score", f"Score users for {surface}") as progress, engine_of(engine, workers) as working, _kept():
        manifest = score_all(asked, working, top=top, progress=progress)
    _tell(manifest, out, as_json)


@batch.command("decide-all", epilog="Example: segue decide-all --surface push --users users.csv --out pushes")
def decide_all(
    surface: SurfaceOption,
    out: OutOption,
    users: UsersOption = None,
    snapshot: SnapshotOption = None,
    release: ReleaseOption = None,
    at: AtOption = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Write the decisions to the decision log.")] = True,
    hold: Annotated[
        float, typer.Option("--hold-hours", min=0.01, help="How long budget units wait for their impressions.")
    ] = 24.0,
    without_store: Annotated[
        bool, typer.Option("--without-store", help="Ask no online store: caps and hard budgets count as reached.")
    ] = False,
    replace: ReplaceOption = False,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    home: HomeOption = DEFAULT_HOME,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide for many users at once, with all rules, caps and budgets, to Parquet and to the decision log.

    The same command again goes on where it was interrupted: nobody is decided twice, and no unit is taken twice.
    """
    from evaluation.batch.jobs import Question, decide_all
    from scaling.engines import engine_of
    from verbs.batch_sources import release_loader, store_opener

    where = Home(home)
    asked = Question(
        release_loader(where, release), surface, snapshot_of(where, snapshot), users, out, _moment(at), replace
    )
    asked.checked()  # before a store is started
    with store_opener(where, redis_url, without=without_store) as store:
        steps, folder = Steps(people), where.logs / "decisions" if log else None
        bar = steps.step("decide", f"Decide for {surface}")
        with bar as progress, engine_of(engine, workers) as working, _kept():
            manifest = decide_all(
                asked, working, store=store, secret=where.secret(), log=folder, lease=hold * 3600, progress=progress
            )
    _tell(manifest, out, as_json)


@contextmanager
def _kept() -> Iterator[None]:
    """Says what becomes of what is done, where Ctrl-C ends the work."""
    try:
        yield
    except KeyboardInterrupt:
        people.print("What is done is kept: the same command goes on from there.")
        raise


def _moment(at: datetime | None) -> float | None:
    return None if at is None else at.replace(tzinfo=UTC).timestamp()


def _tell(manifest: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """The result; what of a file of users was left out is said to people too."""
    if as_json:
        show(dict(manifest), as_json)
        return
    tally = dict(manifest["tally"])
    for warning in _warnings(tally.pop("file", None), tally.pop("stale_features")):
        people.print(f"[yellow]Warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    told = sorted(tally.items(), key=lambda one: FIRST.index(one[0]) if one[0] in FIRST else len(FIRST))
    show({"out": str(out), "release": manifest["release"], "snapshot": manifest["snapshot"], **dict(told)}, as_json)


def _warnings(file: Mapping[str, Any] | None, stale: Sequence[str]) -> Iterator[str]:
    if stale:
        yield f"the snapshot is so old that these count as missing: {', '.join(stale)}. Build a new one."
    if file is None:
        return
    if file["unknown"]:
        yield f"users that are not in the snapshot: {file['unknown']:,} (lines {_lines(file, 'unknown')})."
    if file["duplicates"]:
        lines = _lines(file, "duplicates")
        yield f"rows that name a user again: {file['duplicates']:,} (lines {lines}); the first of each counts."
    if file["ignored"]:
        yield f"nothing reads the columns {', '.join(file['ignored'])}."


def _lines(file: Mapping[str, Any], what: str) -> str:
    """The first lines, and whether there are more."""
    named = file["examples"][what]
    return ", ".join(map(str, named)) + (", …" if file[what] > len(named) else "")
