"""How to train: a TOML file, or the name of one in `training/configs`."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decisioning.errors import UserError
from models.artifact import Model
from models.crossing import Cross
from models.fitting.boosting import NETWORK
from models.fitting.calibrating import CALIBRATIONS
from models.learners import LEARNERS, Params
from scaling.search import Space
from training.search_space import read_space, space_toml

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_LEARNER = "lightgbm"
POSITIVES = ("matured", "delay_weighted")


@dataclass(frozen=True, slots=True)
class Config:
    """A learner with all of its parameters, and what is done around it."""

    learner: str
    params: Params
    monotone: Mapping[str, int] = field(default_factory=dict)
    """Features and offer attributes that the probability may only rise (+1) or fall (−1) with."""
    crosses: tuple[Cross, ...] = ()
    """Features of users with attributes of offers that make a column together."""
    calibration: str = "platt"
    shrinkage: float | None = None
    """λ, where it is not to be chosen by the evidence."""
    positives: str = "matured"
    """What is learned from: matured decisions alone, or open ones too, their positives weighted for their delay."""

    downsample_negatives: float | None = None
    """The share of decisions without a conversion that is learned from, weighted so that rates stay what they are."""
    search: Space = field(default_factory=dict)
    """What `segue tune` may change of the parameters. No part of what a model is trained with."""

    def to_json(self) -> dict[str, Any]:
        return {
            "learner": self.learner,
            "params": dict(self.params),
            "monotone": dict(self.monotone),
            "crosses": [list(cross) for cross in self.crosses],
            "calibration": self.calibration,
            "fixed_shrinkage": self.shrinkage,
            "positives": self.positives,
            "downsample_negatives": self.downsample_negatives,
        }


def config_of(model: Model) -> Config:
    """The configuration that a model was trained with, as it wrote down itself."""
    info: Mapping[str, Any] = model.info
    return Config(
        model.learner,
        dict(info.get("params", {})),
        dict(info.get("monotone", {})),
        tuple(Cross(*pair) for pair in info.get("crosses", ())),
        info.get("calibration", "platt"),
        info.get("fixed_shrinkage"),
        info.get("positives", "matured"),
        info.get("downsample_negatives"),
    )


def read_config(config: Path | str | None) -> Config:
    """The configuration in a file; without one, the default learner. Parameters not given are the learner's own.

    Raises UserError for a file that isn't there, is no TOML, or says what no training can do.
    """
    if config is None:
        return _filled({}, "the default")
    named = CONFIGS / f"{config}.toml"
    path = named if named.is_file() else Path(config)
    try:
        found = tomllib.loads(path.read_text())
    except OSError:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise UserError(f"There is no training config {config}: give a TOML file, or one of {known}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}.") from None
    return _filled(found, str(path))


def _filled(found: Mapping[str, Any], path: str) -> Config:
    keys = ("learner", "calibration", "shrinkage", "positives", "downsample_negatives", "crosses", "params", "monotone",
            "search")  # fmt: skip
    unknown = sorted(set(found) - set(keys))
    if unknown:
        raise UserError(f"{path} has the unknown key {unknown[0]}: a config holds {', '.join(keys)}.")
    learner = _one_of(LEARNERS, found.get("learner", DEFAULT_LEARNER), "learner", path)
    params, monotone = found.get("params", {}), found.get("monotone", {})
    if not isinstance(params, Mapping) or any(isinstance(value, list | dict) for value in params.values()):
        raise UserError(f"{path}: [params] must be a table of plain values.")
    if not isinstance(monotone, Mapping) or any(value not in (1, -1) for value in monotone.values()):
        raise UserError(f"{path}: [monotone] must be a table of feature = 1 (it rises with it) or -1 (it falls).")
    taken = sorted(set(params) & set(NETWORK))
    if taken:
        raise UserError(
            f"{path}: take {taken[0]} out of [params]: `segue train --engine ray` says it, where it is needed."
        )
    shrinkage = found.get("shrinkage")
    if shrinkage is not None and not (type(shrinkage) in (int, float) and 0 <= shrinkage <= 1):
        raise UserError(f"{path}: shrinkage is {shrinkage!r}; it is from 0 to 1, or left out to be chosen.")
    params = {**LEARNERS[learner].defaults, **params}
    return Config(
        learner,
        params,
        dict(monotone),
        _crosses(found, learner, path),
        _one_of(CALIBRATIONS, found.get("calibration", "platt"), "calibration", path),
        None if shrinkage is None else float(shrinkage),
        _one_of(POSITIVES, found.get("positives", "matured"), "way of taking positives", path),
        _kept(found, learner, path),
        read_space(found.get("search", {}), learner, params, path),
    )


def _crosses(found: Mapping[str, Any], learner: str, path: str) -> tuple[Cross, ...]:
    pairs = found.get("crosses", [])
    words = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not words or not all(isinstance(word, str) for pair in pairs for word in pair):
        raise UserError(f'{path}: crosses is a list of pairs of a feature and an attribute: [["likes", "genre"]].')
    if pairs and not LEARNERS[learner].crosses:
        able = ", ".join(sorted(name for name, one in LEARNERS.items() if one.crosses))
        raise UserError(f"{path}: the learner {learner} knows no crosses: take them out, or use {able}.")
    return tuple(Cross(*pair) for pair in pairs)


def _kept(found: Mapping[str, Any], learner: str, path: str) -> float | None:
    """The share of negatives that is learned from."""
    share = found.get("downsample_negatives")
    if share is None:
        return None
    if not (type(share) in (int, float) and 0 < share <= 1):
        raise UserError(f"{path}: downsample_negatives is {share!r}; it is a share, above 0 and at most 1.")
    if learner == "dr_learner":
        raise UserError(
            f"{path}: the dr_learner can't learn from a share of the negatives, as its pseudo-effects take every "
            "decision as likely as it was logged: take downsample_negatives out, or another learner."
        )
    return float(share)


def _one_of(known: Mapping[str, object] | tuple[str, ...], wanted: object, what: str, path: str) -> str:
    if wanted not in known:
        raise UserError(f"{path}: there is no {what} {wanted!r}. Choose one of: {', '.join(sorted(known))}.")
    return str(wanted)


def to_toml(config: Config, heading: str) -> str:
    """A file that `read_config` reads as this configuration, beneath a comment."""
    lines = [*(f"# {line}" for line in heading.splitlines()), f'learner = "{config.learner}"']
    lines += [f'calibration = "{config.calibration}"', f'positives = "{config.positives}"']
    for key, value in (("shrinkage", config.shrinkage), ("downsample_negatives", config.downsample_negatives)):
        lines += [] if value is None else [f"{key} = {value!r}"]
    lines += [f"crosses = {json.dumps([list(cross) for cross in config.crosses])}"] if config.crosses else []
    for table, values in (("params", config.params), ("monotone", config.monotone)):
        lines += ["", f"[{table}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values.items())]
    lines += ["", "[search]", *space_toml(config.search)]
    return "\n".join(lines) + "\n"
