"""The decision core reads no clock, draws no numbers and opens no files, wherever in an expression that would hide."""

import ast
from pathlib import Path

import pytest

import decisioning

CORE = sorted(Path(decisioning.__file__).parent.glob("*.py"))
IMPURE = {"now", "utcnow", "today", "open", "input", "print", "eval", "__import__", "urandom", "read_text"}


def calls(text: str) -> list[str]:
    """The impure names that a module calls, each with its line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in IMPURE:
                found.append(f"line {node.lineno}: {name}")
    return found


@pytest.mark.parametrize("module", CORE, ids=lambda path: path.stem)
def test_no_module_of_the_decision_core_calls_what_is_impure(module):
    assert calls(module.read_text()) == []


@pytest.mark.parametrize("line", ["datetime.now()", "x = datetime.datetime.now(UTC)", "open('f')", "eval('1')"])
def test_what_is_impure_would_be_found(line):
    assert calls(line)
