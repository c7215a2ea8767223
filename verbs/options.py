"""The options that several verbs share, so that each is called and explained the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_HOME = Path(".segue")

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
    str | None,
    typer.Option("--redis-url", envvar="REDIS_URL", help="A Redis, a Valkey, a cluster; default: the embedded one."),
]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", envvar="SEGUE_KEYS", help="The file of API keys; default: keys.json in --home."),
]
LastOption = Annotated[
    str, typer.Option("--last", help="How much of the log: a number of decisions, 7d, 24h, 90m, 2w, or all.")
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Who does the work: local (this machine), or ray (a cluster by RAY_ADDRESS).")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="How many work at once; default: 2, or a Ray cluster's CPUs.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


def group(help: str | None = None, epilog: str | None = None) -> typer.Typer:
    """A group of verbs. One without a name lends its verbs to the group that takes it in."""
    return typer.Typer(
        help=help, epilog=epilog, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
