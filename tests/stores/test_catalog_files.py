"""The files of a catalog folder."""

import pytest

from decisioning.errors import UserError
from stores.catalog_files import read_catalog_files


def test_every_yaml_file_below_the_folder_counts_however_its_ending_is_written(tmp_path):
    (tmp_path / "offers").mkdir()
    names = ["a.yaml", "b.yml", "C.YAML", "offers/d.Yml"]
    for name in [*names, "notes.md", "a.yaml.bak"]:
        (tmp_path / name).write_bytes(name.encode())
    assert read_catalog_files(tmp_path) == {name: name.encode() for name in names}


def test_a_folder_without_yaml_or_no_folder_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="holds no YAML file"):
        read_catalog_files(tmp_path)
    with pytest.raises(UserError, match="There is no catalog folder"):
        read_catalog_files(tmp_path / "none")
