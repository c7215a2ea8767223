"""The command line: one function per verb, imports inside the verbs. `workbench` puts together what they need."""

import getpass
import json
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from decisioning.errors import UserError
from stores.home import Home
from terminal import Steps
from workbench import catalog_folder, current_release, load_catalog_of, online_store

EVERYWHERE = "Every verb takes --home (default .segue), and --debug to show the traceback of an error."


def group(help: str, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=help, epilog=epilog, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )


app = group("Segue: the next best offer for each user, with its reasons.", EVERYWHERE)
data = group("Bring in history to learn from.")
imports = group("Import recorded decisions and what followed them.")
features = group("Build and publish what is known about users.")
catalog = group("Check the product managers' rules.")
app.add_typer(data, name="data")
data.add_typer(imports, name="import")
app.add_typer(features, name="features")
app.add_typer(catalog, name="catalog")

people = Console(stderr=True)
"""What people read goes to standard error, so that standard output is the result alone."""

HomeOption = Annotated[Path, typer.Option("--home", envvar="SEGUE_HOME", help="The folder of all work files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
CatalogOption = Annotated[
    Path | None, typer.Option("--catalog", help="The catalog folder; default: the one in --home, else the sample.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="A model that the catalog names; default: its only one.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
RedisOption = Annotated[
    str | None, typer.Option("--redis-url", envvar="REDIS_URL", help="A Redis or Valkey; default: the embedded one.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the record.")]
DEFAULT_HOME = Path(".segue")
MOST_REASONS = 12
"""How many offers `segue decide` speaks of without --explain."""


@data.command("simulate", epilog="Example: segue data simulate --users 20000 --seed 1")
def data_simulate(
    home: HomeOption = DEFAULT_HOME,
    users: Annotated[int, typer.Option(min=50, help="How many listeners.")] = 20_000,
    days: Annotated[int, typer.Option(min=7, max=120, help="How many days of history.")] = 30,
    seed: SeedOption = 1,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it ends; default: today.")
    ] = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a month of listeners, events and randomly explored offers."""
    from evaluation.simulator import simulate

    where = Home(home)
    with Steps(people).step("simulate", f"Simulate {users:,} listeners over {days} days") as progress:
        result = simulate(
            where,
            catalog_folder(where, catalog),
            users=users,
            days=days,
            seed=seed,
            until=until.date() if until else None,
            progress=progress,
        )
    show({"home": str(home), **result.figures()}, as_json)


@imports.command("hillstrom", epilog="Example: segue data import hillstrom hillstrom.csv")
def data_import_hillstrom(
    file: Annotated[Path, typer.Argument(help="The CSV of the MineThatData e-mail challenge.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Import the Hillstrom e-mail trial: 64,000 customers, three randomised arms."""
    from training.importers.hillstrom import import_hillstrom

    with Steps(people).step("import", f"Import {file}"):
        rows = import_hillstrom(Home(home), file)
    show({"home": str(home), **rows}, as_json)


@imports.command(
    "tables",
    epilog="Example: segue data import tables --facts facts.csv --decisions decisions.csv --outcomes outcomes.csv",
)
def data_import_tables(
    facts: Annotated[Path, typer.Option(help="What was known: decision_id (or user_id, as_of), and the features.")],
    decisions: Annotated[Path, typer.Option(help="decision_id, user_id, at, surface, offer, probability, eligible.")],
    outcomes: Annotated[Path, typer.Option(help="event_id, decision_id, type, value, at.")],
    offers: Annotated[Path | None, typer.Option(help="offer, group, value, cost, and attributes of your own.")] = None,
    converts_on: Annotated[str | None, typer.Option(help="The outcome type that counts as a conversion.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Import anyone's own logs (CSV or Parquet) in the three-table contract; see docs/data.md."""
    from training.importers.tables import import_tables

    with Steps(people).step("import", "Check and import the three tables"):
        rows = import_tables(
            Home(home), facts=facts, decisions=decisions, outcomes=outcomes, offers=offers, converts_on=converts_on
        )
    show({"home": str(home), **rows}, as_json)


@features.command("build", epilog="Example: segue features build")
def features_build(home: HomeOption = DEFAULT_HOME, catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """Build a snapshot: the values of the catalog's features for all users, as of the end of the data."""
    from features.schema import Schema
    from features.snapshots import build_snapshot

    where = Home(home)
    schema = Schema.of(load_catalog_of(where, catalog).features)
    with Steps(people).step("features", "Build the feature snapshot"):
        snapshot = build_snapshot(where.data, where.snapshots, schema=schema)
    show({"snapshot": snapshot.id, "as_of": snapshot.manifest["as_of"], "users": snapshot.rows}, as_json)


@features.command("publish", epilog="Example: segue features publish --redis-url redis://127.0.0.1:6379")
def features_publish(
    home: HomeOption = DEFAULT_HOME, redis_url: RedisOption = None, as_json: JsonOption = False
) -> None:
    """Publish the current snapshot to the online store: all of it, or nothing."""
    from workbench import publish_features

    where = Home(home)
    with online_store(where, redis_url) as url, Steps(people).step("publish", "Publish the features") as progress:
        published = publish_features(where, url, progress)
    show(published, as_json)


@app.command(epilog="Example: segue train --seed 1")
def train(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    config: Annotated[Path | None, typer.Option(help="A learner's configuration in TOML.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit a model, hold it against the best single offer, and register it in MLflow as the challenger."""
    from training.train import train

    where = Home(home)
    with Steps(people).step("train", "Train, cross-fit and register") as progress:
        result = train(where, load_catalog_of(where, catalog), model=model, config=config, seed=seed, progress=progress)
    show_policy_values(result.to_json(), as_json)


@app.command(epilog="Example: segue evaluate --version 3")
def evaluate(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    version: Annotated[str | None, typer.Option(help="A number, champion or challenger; default: challenger.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Draws the folds; default: as in its training.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The value of each policy on the recorded decisions, cross-fitted, with intervals."""
    from training.evaluate import evaluate

    where = Home(home)
    with Steps(people).step("evaluate", "Evaluate the policies") as progress:
        result = evaluate(
            where, load_catalog_of(where, catalog), model=model, version=version, seed=seed, progress=progress
        )
    show_policy_values(result.to_json(), as_json)


@app.command(epilog="Example: segue promote --version 3 --why 'better on the premium markets'")
def promote(
    home: HomeOption = DEFAULT_HOME,
    catalog: CatalogOption = None,
    model: ModelOption = None,
    version: Annotated[
        str | None, typer.Option(help="Default: the challenger; where none waits, the model in use.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote against the evidence; needs --why.")] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a release of the catalog and a model that has shown its worth, and point the servers to it."""
    from stores.catalog_files import read_catalog_files
    from training.promote import promote

    where = Home(home)
    files = read_catalog_files(catalog_folder(where, catalog))
    with Steps(people).step("promote", "Check the evidence and publish a release"):
        promoted = promote(where, files, model, version, who=who(), why=why, force=force, now=time.time())
    show(promoted.to_json(), as_json)


@app.command(epilog="Example: segue rollback --why 'conversions fell in Brazil'")
def rollback(home: HomeOption = DEFAULT_HOME, why: WhyOption = "", as_json: JsonOption = False) -> None:
    """Point the servers to the release before the current one."""
    from training.promote import rollback

    before, after = rollback(Home(home), who=who(), why=why, now=time.time())
    show({"from": before, "to": after}, as_json)


@catalog.command("check", epilog="Example: segue catalog check catalog/")
def catalog_check(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Every error of the YAML at once, each with its place; then the catalog's own tests; then warnings."""
    from decisioning.catalog_yaml import CatalogError
    from terminal import problem_words
    from workbench import check_catalog_of

    try:
        checked, failures, warnings = check_catalog_of(Home(home), folder, time.time())
    except CatalogError as error:
        if not as_json:
            raise
        show({"ok": False, "errors": [one.to_json() for one in error.problems], "warnings": []}, as_json)
        raise typer.Exit(2) from None
    counts = {name: len(getattr(checked, name)) for name in ("offers", "surfaces", "features", "experiments", "tests")}
    if as_json:
        errors = [one.to_json() for one in failures]
        told = {"errors": errors, "warnings": [one.to_json() for one in warnings]}
        show({"ok": not failures, "hash": checked.hash, **counts, **told}, as_json)
    else:
        for line in problem_words(failures, warnings):
            people.print(line, highlight=False, soft_wrap=True)
        if not failures:
            show({"ok": True, "hash": checked.hash, **counts, "warnings": len(warnings)}, as_json)
    if failures:
        raise typer.Exit(2)


@catalog.command("test", epilog="Example: segue catalog test catalog/")
def catalog_test(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run the catalog's own tests. Exits with 1 if one fails."""
    from decisioning.catalog_tests import run_tests

    checked = load_catalog_of(Home(home), folder)
    failures = run_tests(checked)
    failed = {(failure.test, failure.place) for failure in failures}
    for failure in () if as_json else failures:
        people.print(f"[red]Failed:[/red] {escape(str(failure))}", highlight=False, soft_wrap=True)
    told = {"failures": [one.to_json() for one in failures]} if as_json else {}
    show({"ok": not failures, "tests": len(checked.tests), "passed": len(checked.tests) - len(failed), **told}, as_json)
    if failures:
        raise typer.Exit(1)


@catalog.command("schema", epilog="Example: segue catalog schema catalog/ > .vscode/catalog.schema.json")
def catalog_schema_of(
    folder: Annotated[
        Path | None, typer.Argument(help="A catalog folder whose names are to be completed; default: any names.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write the JSON Schema (draft-07) of the catalog's files, for completion in editors."""
    from decisioning.catalog_schema import catalog_schema

    show(catalog_schema(None if folder is None else load_catalog_of(Home(home), folder)), as_json=True)


@catalog.command("words", epilog="Example: segue catalog words premium_annual --catalog catalog/")
def catalog_words(
    offer: Annotated[str, typer.Argument(help="The name of an offer.")],
    catalog: CatalogOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """All that the catalog says of an offer, as plain sentences."""
    from decisioning.sentences import sentences

    told = sentences(load_catalog_of(Home(home), catalog), offer)
    if as_json:
        show({"offer": offer, "sentences": list(told)}, as_json)
        return
    for sentence in told:
        Console(highlight=False, soft_wrap=True).print(escape(sentence))


@catalog.command("reach", epilog="Example: segue catalog reach my-catalog --surface paywall --context country=SE")
def catalog_reach(
    folder: Annotated[Path | None, typer.Argument(help="The catalog folder; default: the one in --home.")] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="A feature snapshot's id, or its folder; default: the current one.")
    ] = None,
    surface: Annotated[str | None, typer.Option(help="One surface; default: all.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="name=value, as if every client sent it; repeatable.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """How many users each offer reaches on each surface, and which clause drops how many of the others."""
    from evaluation.reach import reach
    from terminal import reach_table
    from workbench import read_context, snapshot_of

    where = Home(home)
    checked, users = load_catalog_of(where, folder), snapshot_of(where, snapshot)
    sent = read_context(checked, context or [])
    with Steps(people).step("reach", f"Ask the rules of {users.rows:,} users") as progress:
        found = reach(checked, users, surface=surface, context=sent, progress=progress)
    if as_json:
        told = {"snapshot": users.id, "as_of": users.manifest["as_of"], "users": users.rows, "context": context or []}
        show({**told, "reach": [one.to_json() for one in found]}, as_json)
        return
    out = Console(highlight=False)
    for name in dict.fromkeys(one.surface for one in found):
        out.print(reach_table(name, [one for one in found if one.surface == name], users.rows))


@app.command(epilog="Example: segue serve --port 8080")
def serve(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    catalog: CatalogOption = None,
    redis_url: RedisOption = None,
) -> None:
    """Serve decisions until Ctrl-C: by the release in use, or by the rules alone with --catalog."""
    from serving.main import run

    where = Home(home)
    if catalog is None and not (where.releases / "current").is_file():
        raise UserError(
            f"There is no release in {where.releases} yet: run `segue train` and `segue promote`, or serve by the "
            "rules alone with --catalog DIR."
        )
    with online_store(where, redis_url) as url:
        run(where, host, port, url, catalog=catalog_folder(where, catalog), on_ready=welcome)


@app.command(epilog="Example: segue decide user-42 home_banner --context country=SE --explain")
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
    """Decide for one user and say why, and why not each of the others. Nothing is logged or counted."""
    from dataclasses import replace

    from decisioning.domain import Request
    from decisioning.engine import decide
    from decisioning.explain import explain
    from decisioning.identity import user_key
    from stores.decision_log import to_json
    from terminal import decision_words
    from workbench import read_context, read_facts

    where = Home(home)
    release = current_release(where)
    known = release.catalog.surfaces.get(surface)
    if known is not None and slots is not None and slots > known.slots:
        raise UserError(f"--slots {slots} is more than {surface} has: {known.slots}.")
    if not user.strip():
        raise UserError("The user's id is empty.")
    if catalog is not None:
        release = replace(release, id="draft", catalog=load_catalog_of(where, catalog))
    request = Request(
        decision_id=uuid.uuid4().hex,
        user=user_key(where.secret(), user),
        surface=surface,
        now=time.time(),
        context=read_context(release.catalog, context or []),
        slots=slots,
    )
    with online_store(where, redis_url) as url:
        facts = read_facts(where, url, release.catalog, request.user)
    decision = decide(release, request, facts)
    if as_json:
        sys.stdout.write(to_json(decision) + "\n")
        return
    explanation = explain(release, request, facts, decision)
    most = None if why else MOST_REASONS
    for line in decision_words(release.catalog, decision, explanation, most=most, changes=why):
        Console(soft_wrap=True, highlight=False).print(line)


@app.command(epilog="Example: segue kill premium_annual --why 'wrong price'; segue kill --list")
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


@app.command(epilog="Example: segue revive premium_annual --why 'the price is right again'")
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


@app.command(epilog="Example: segue replay --last 1000")
def replay(
    last: Annotated[int, typer.Option(min=1, help="How many of the latest decisions.")] = 1000,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run recorded decisions again: all of them must come out identical, to the byte. Exits with 1 if one does not."""
    from workbench import replay_log

    report = replay_log(Home(home), last)
    show(report, as_json)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command(epilog="Example: segue demo --data hillstrom --file hillstrom.csv --check")
def demo(
    home: Annotated[Path | None, typer.Option("--home", help="Default: .segue, or .segue-hillstrom.")] = None,
    source: Annotated[str, typer.Option("--data", help="simulated, or hillstrom.")] = "simulated",
    file: Annotated[Path | None, typer.Option(help="The Hillstrom CSV, for --data hillstrom.")] = None,
    users: Annotated[int, typer.Option(min=4000, help="How many listeners; fewer would prove nothing.")] = 20_000,
    seed: SeedOption = 1,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Default: 8080, or any free one where that is taken.")
    ] = None,
    redis_url: RedisOption = None,
    check: Annotated[bool, typer.Option("--check", help="Verify every answer over HTTP, then stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Everything once: history, features, training, a release, a server, and decisions with their reasons."""
    from demo import Demo

    choices = ("simulated", "hillstrom")
    if source not in choices:
        raise UserError(f"--data takes {' or '.join(choices)}, and not {source}.")
    if (source == "hillstrom") != (file is not None):
        raise UserError("--data hillstrom and --file FILE go together: name the CSV of the Hillstrom trial.")
    where = Home(home or Path(".segue" if source == "simulated" else ".segue-hillstrom"))
    tour = Demo(where, people, file=file, users=users, seed=seed, port=port, redis_url=redis_url, check=check)
    result = tour.run()
    if as_json:
        show(result, as_json)
    if not result["ok"]:
        raise typer.Exit(1)


# --- How results and mistakes are told ---


def show(result: dict[str, Any], as_json: bool) -> None:
    """The result on standard output: JSON for machines, one line per figure for people."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    out = Console(highlight=False, soft_wrap=True)
    for name, value in result.items():
        out.print(f"[dim]{escape(name)}:[/dim] {escape(in_words(value))}")


def in_words(value: object) -> str:
    """A figure as people read it; a list one line each."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
        case dict():
            return ", ".join(f"{name} {in_words(one)}" for name, one in value.items()) or "none"
        case list() | tuple():
            return "".join(f"\n  {in_words(one)}" for one in value) or "none"
    return str(value)


def show_policy_values(result: dict[str, Any], as_json: bool) -> None:
    """What `train` and `evaluate` found: a table per outcome, then what to make of it."""
    from terminal import outcomes_of, policy_table

    if as_json:
        show(result, as_json)
        return
    out = Console()
    for outcome in outcomes_of(result):
        out.print(policy_table(result["policy_values"], outcome))
    out.print(f"best_single_offer is the best by {result['objective']}. {result.get('says', '')}", soft_wrap=True)
    if result["immature"]:
        out.print(
            f"{result['immature']:,} more decisions are too young to judge: the time that their groups give a "
            "conversion (`within` in the catalog) has not passed.",
            soft_wrap=True,
        )
    kept = ("model", "version", "decisions", "users", "conversions", "shrinkage", "ece", "auc", "seed")
    show({name: result[name] for name in kept if name in result}, as_json)


def welcome(address: str) -> None:
    """Told to a person who watches; machines read the log."""
    if people.is_terminal:
        people.print(f"Serving on {address} (try {address}/docs). Ctrl-C stops.", highlight=False)


def who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def main() -> None:
    """Runs a verb. A user's mistake becomes one message and exit code 2; `--debug` anywhere shows the traceback."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    try:
        app(args=words, prog_name="segue")
    except UserError as error:
        if debug:
            raise
        people.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if debug:
            raise
        where = f" {error.filename}" if error.filename else ""
        people.print(
            f"[red]Error:[/red] Segue can't read or write{escape(where)}: {error.strerror}. "
            "Check the path, its permissions and the disk, or choose another --home.",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(2)
    except Exception as error:
        if "Query interrupted" in str(error):  # DuckDB's own word for Ctrl-C
            sys.exit(130)
        if debug:
            raise
        kind = type(error).__name__
        people.print(
            f"[red]Error:[/red] something that Segue did not expect: {kind}: {escape(str(error))}. "
            "Run it again with --debug for the traceback.",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
