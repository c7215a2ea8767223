"""How results and mistakes are told: results on standard output, all that is for people alone on standard error."""

import getpass
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

people = Console(stderr=True)
"""What people read goes to standard error, so that standard output is the result alone."""


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


def who() -> str:
    """Who is at the keyboard, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
