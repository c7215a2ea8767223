"""The C extensions beside their twins in Python: whether one may be used, and if not, why.

Each is optional and has a twin that says what is right, used where the extension isn't there. `SEGUE_NATIVE=off` uses
the twins everywhere.
"""

import os
from functools import cache
from importlib import import_module
from types import ModuleType

OFF = "off"


def native(name: str, version: int) -> ModuleType | None:
    """The extension of a name such as "decisioning._tallies"; None where it can't be used."""
    return _found(name, version)[0]


def missing(name: str, version: int) -> str:
    """Why an extension can't be used; empty where it can."""
    return _found(name, version)[1]


@cache
def _found(name: str, version: int) -> tuple[ModuleType | None, str]:
    if os.environ.get("SEGUE_NATIVE") == OFF:
        return None, "SEGUE_NATIVE is off"
    try:
        found = import_module(name)
    except ImportError as error:
        return None, f"the C extension is not there ({error})"
    if version != found.VERSION:
        return None, "the C extension is an older one (`make setup` builds it anew)"
    return found, ""
