"""Which learner, with which parameters: a TOML file, or the name of one in `training/configs`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from decisioning.errors import UserError
from models.learners import LEARNERS, Params

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_LEARNER = "lightgbm"


@dataclass(frozen=True, slots=True)
class Config:
    """A learner's name and all of its parameters."""

    learner: str
    params: Params


def read_config(config: Path | str | None) -> Config:
    """The configuration in a file; without one, the default learner. Parameters not given are the learner's own.

    Raises UserError for a file that isn't there, is no TOML, or holds anything but `learner` and `[params]`.
    """
    if config is None:
        return _filled(DEFAULT_LEARNER, {})
    named = CONFIGS / f"{config}.toml"
    path = named if named.is_file() else Path(config)
    try:
        found = tomllib.loads(path.read_text())
    except OSError:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise UserError(f"There is no training config {config}: give a TOML file, or one of {known}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}.") from None
    unknown = sorted(set(found) - {"learner", "params"})
    if unknown:
        raise UserError(f"{path} has the unknown key {unknown[0]}: a config holds `learner` and `[params]`.")
    learner, params = found.get("learner", DEFAULT_LEARNER), found.get("params", {})
    if learner not in LEARNERS:
        raise UserError(f"{path}: there is no learner {learner!r}. Choose one of: {', '.join(sorted(LEARNERS))}.")
    if not isinstance(params, Mapping) or any(isinstance(value, list | dict) for value in params.values()):
        raise UserError(f"{path}: [params] must be a table of plain values.")
    return _filled(learner, params)


def _filled(learner: str, params: Params) -> Config:
    return Config(learner, {**LEARNERS[learner].defaults, **params})
