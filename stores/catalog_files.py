"""The catalog folder that people edit, as the mapping of names to bytes that `load_catalog` takes."""

from pathlib import Path

from decisioning.errors import UserError


def read_catalog_files(folder: Path) -> dict[str, bytes]:
    """Every YAML file below a folder, by its path in it. Raises UserError where there is no folder, or no file."""
    if not folder.is_dir():
        raise UserError(f"There is no catalog folder {folder}: name another, or import or simulate data first.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".yaml", ".yml") and file.is_file())
    if not files:
        raise UserError(f"The catalog folder {folder} holds no YAML file.")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
