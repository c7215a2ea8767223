"""The command line: every verb put together, the demo, and what becomes of mistakes. The verbs are in `verbs/`."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from decisioning.errors import UserError
from stores.home import Home
from verbs.batch import batch
from verbs.catalog import catalog
from verbs.data import data
from verbs.deciding import deciding
from verbs.drift import drifting
from verbs.erase import erasing
from verbs.features import features
from verbs.keys import keys
from verbs.learning import learning
from verbs.logs import logs
from verbs.options import JsonOption, RedisOption, SeedOption, group
from verbs.simulate import simulating
from verbs.telling import people, show
from verbs.tuning import tuning
from verbs.whatif import whatif_verbs

STOPPED = 130
"""The exit code after Ctrl-C."""
EVERYWHERE = "Every verb takes --home (default .segue), and --debug to show the traceback of an error."

app = group("Segue: the next best offer for each user, with its reasons.", EVERYWHERE)
app.add_typer(data, name="data")
app.add_typer(features, name="features")
app.add_typer(drifting)
app.add_typer(logs, name="logs")
app.add_typer(erasing)
app.add_typer(catalog, name="catalog")
app.add_typer(learning)
app.add_typer(tuning)
app.add_typer(deciding)
app.add_typer(keys, name="keys")
app.add_typer(batch)
app.add_typer(whatif_verbs)
app.add_typer(simulating)


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


def _stopped() -> NoReturn:
    people.print("Stopped.")
    sys.exit(STOPPED)


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
        _stopped()
    except SystemExit as end:
        if end.code == STOPPED:
            _stopped()
        raise
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
            _stopped()
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
