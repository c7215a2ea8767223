import json
from pathlib import Path

import pytest

from decisioning.errors import UserError
from stores.registry import CHALLENGER, CHAMPION, Registry

FILES = {"model.json": b'{"version": 0}', "model.txt": b"tree\n\xc3\xa9"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts")


def register(registry, name):
    return registry.register(name, FILES, {"convert.trained.value": 0.1}, {"learner": "x" * 900}, {"seed": "1"})


def test_versions_count_up_and_their_files_come_back_with_the_number_in_them(registry):
    first, second = register(registry, "upsell"), register(registry, "upsell")
    assert (first.label, second.label) == ("upsell/1", "upsell/2")
    assert first.tags == {"seed": "1"}
    files = registry.files("upsell", 2)
    assert files["model.txt"] == FILES["model.txt"]
    assert json.loads(files["model.json"]) == {"version": 2}
    assert [one.version for one in registry.versions("upsell")] == [1, 2]


def test_an_alias_moves(registry):
    for _ in range(2):
        register(registry, "merch")
    assert registry.alias("merch", CHAMPION) is None
    registry.set_alias("merch", CHAMPION, 1)
    registry.set_alias("merch", CHALLENGER, 2)
    registry.set_alias("merch", CHAMPION, 2)
    assert registry.alias("merch", CHAMPION).version == registry.alias("merch", CHALLENGER).version == 2


def test_a_gate_record_is_a_tag_of_the_version(registry):
    register(registry, "tagged")
    registry.tag("tagged", 1, "gate", "passed")
    assert registry.version("tagged", 1).tags["gate"] == "passed"


def test_what_does_not_exist_is_said_with_what_does(registry):
    assert registry.versions("never") == ()
    assert registry.alias("never", CHAMPION) is None
    with pytest.raises(UserError, match=r"no version 9 .*it has: none"):
        registry.files("never", 9)
    register(registry, "once")
    with pytest.raises(UserError, match=r"it has: 1\)"):
        registry.version("once", 2)


def test_it_keeps_quiet(registry, capfd, recwarn):
    register(registry, "quiet")
    registry.files("quiet", 1)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_looking_into_a_registry_that_is_not_there_creates_nothing(tmp_path):
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    assert registry.versions("upsell") == ()
    assert registry.alias("upsell", CHAMPION) is None
    with pytest.raises(UserError, match=r"no version 1 .*it has: none"):
        registry.version("upsell", 1)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_the_database_is_made_leaves_a_registry_that_works(tmp_path, monkeypatch):
    class Interrupted:
        def __init__(self, tracking_uri, registry_uri):
            Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"half a database")

        def search_experiments(self):
            raise KeyboardInterrupt

    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    with monkeypatch.context() as patch:
        patch.setattr("stores.registry.MlflowClient", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            register(registry, "upsell")
    assert list(tmp_path.iterdir()) == []
    assert register(registry, "upsell").version == 1
