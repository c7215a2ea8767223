"""Extensions are optional: one that isn't there, or is of another version, makes way for its twin."""

import subprocess
import sys
from types import ModuleType

from decisioning.native import missing, native


def test_what_is_not_built_or_of_another_version_is_not_used(monkeypatch):
    monkeypatch.delenv("SEGUE_NATIVE", raising=False)
    made = ModuleType("extension_of_a_test")
    made.VERSION = 2
    monkeypatch.setitem(sys.modules, made.__name__, made)
    assert (native(made.__name__, 2), missing(made.__name__, 2)) == (made, "")
    assert native(made.__name__, 3) is None
    assert "older" in missing(made.__name__, 3)
    assert native("decisioning._nonsense", 1) is None
    assert "not there" in missing("decisioning._nonsense", 1)


def test_all_of_them_can_be_turned_off():
    asked = "from decisioning.native import missing; print(missing('decisioning._nonsense', 1))"
    told = subprocess.run([sys.executable, "-c", asked], env={"SEGUE_NATIVE": "off"}, capture_output=True, text=True)
    assert told.stdout == "SEGUE_NATIVE is off\n", told.stderr
