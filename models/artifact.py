"""A model as files, and back: what a release carries and serving loads without LightGBM.

save(model) -> {"model.json": …} and, of models with trees, {"model.txt": …, "model-000.txt": …}
load(files, groups={offer: group}) -> Model, which is a `decisioning.domain.Scorer`
"""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from decisioning.errors import UserError
from models.calibration import calibration_from_json
from models.crossing import Cross, Traits
from models.encoding import Encoding, features_from_json, features_json, value_from_json, value_json
from models.model import Golden, Means, Model, record_golden
from models.predictors import TEXT, predictor_from_json
from models.scorer import Way, fastest

__all__ = ["JSON", "TEXT", "ArtifactError", "Golden", "Means", "Model", "load", "record_golden", "save", "stamp"]

FORMAT = 2
READABLE = (1, FORMAT)
"""Format 1 had one text model at most, `model.txt`."""
JSON = "model.json"
TOLERANCE = 1e-12
"""How far a golden probability may move between machines (their `exp` may differ); raw sums must be equal."""


class ArtifactError(UserError):
    """The files are no model, or are damaged, or score differently from what they recorded. Keep the last good one."""


def save(model: Model) -> dict[str, bytes]:
    """The files of a model: `model.json`, and LightGBM's native text models where it has trees."""
    files = {name: text.encode() for name, text in model.predictor.texts.items()}
    encoding, means = model.encoding, model.means
    obj = {
        "format": FORMAT,
        "name": model.name,
        "version": model.version,
        "learner": model.learner,
        "outcome": model.outcome,
        "features": features_json(encoding.features),
        "surfaces": list(encoding.surfaces),
        "offers": [{"name": o.name, "group": o.group, "attributes": dict(o.attributes)} for o in encoding.offers],
        "crosses": encoding.crosses,
        "columns": encoding.columns,
        "schema_hash": encoding.hash,
        "means": {
            "surfaces": {surface: dict(rates) for surface, rates in means.surfaces.items()},
            "offers": dict(means.offers),
            "groups": dict(means.groups),
            "overall": means.overall,
        },
        "uplift": model.uplift,
        "shrinkage": model.shrinkage,
        "calibration": model.calibration.to_json(),
        "predictor": {"kind": model.predictor.kind, **model.predictor.to_json()},
        "files": {name: sha256(content).hexdigest() for name, content in files.items()},
        "info": dict(model.info),
        "golden": [_golden_json(row) for row in model.golden],
    }
    files[JSON] = (json.dumps(obj, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    return files


def stamp(files: Mapping[str, bytes], version: int) -> dict[str, bytes]:
    """The same files under the version that the registry gave."""
    try:
        obj = json.loads(files[JSON])
        obj["version"] = version
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{JSON} is missing or no JSON object ({error}): train the model again.") from None
    return {**files, JSON: (json.dumps(obj, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()}


def load(files: Mapping[str, bytes], groups: Mapping[str, str] = MappingProxyType({})) -> Model:
    """The model in these files. `groups` (offer → group, from the catalog) is for offers that it wasn't trained on.

    It is scored in the fastest way that meets its golden rows, which `Model.way` tells. Raises ArtifactError for files
    that are missing, damaged, of another format, or whose golden rows score differently in every way.
    """
    try:
        obj = json.loads(files[JSON])
        label = f"{obj['name']}/{obj['version']}"
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{JSON} is missing or no model ({error!r}): train the model again.") from None
    if obj.get("format") not in READABLE:
        raise ArtifactError(f"Model {label} has format {obj.get('format')!r}, and this program reads up to {FORMAT}.")
    way: Way | None = fastest()
    while way is not None:
        try:
            model = _model(obj, files, groups, way)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise ArtifactError(f"Model {label} is damaged: {error}. Publish it again from the registry.") from None
        missed = _missed(model)
        if missed is None:
            return model
        way = way.slower(f"by C it scores golden row {missed} differently from LightGBM") if model.way else None
    raise ArtifactError(
        f"Model {label} scores golden row {missed} differently from when it was trained: "
        "it is damaged or made for another program version. Train it again."
    )


def _texts(obj: Mapping[str, object], files: Mapping[str, bytes]) -> dict[str, str]:
    """The text models that the JSON names, each as it was written."""
    digests = {TEXT: obj["model_sha256"]} if obj["format"] == 1 else obj["files"]
    digests = {name: digest for name, digest in digests.items() if digest is not None}
    for name, digest in digests.items():
        if name not in files or sha256(files[name]).hexdigest() != digest:
            raise ValueError(f"{name} is missing, or its sha256 is not the one that {JSON} records")
    return {name: files[name].decode() for name in digests}


def _model(obj: Mapping[str, object], files: Mapping[str, bytes], groups: Mapping[str, str], way: Way) -> Model:
    texts = _texts(obj, files)
    offers = tuple(Traits(o["name"], o["group"], dict(o["attributes"])) for o in obj["offers"])
    crosses = tuple(Cross(*pair) for pair in obj.get("crosses", ()))
    encoding = Encoding(features_from_json(obj["features"]), tuple(obj["surfaces"]), offers, crosses)
    if list(encoding.columns) != obj["columns"] or encoding.hash != obj["schema_hash"]:
        raise ValueError("its columns are not those of its features")
    means = obj["means"]
    predictor = dict(obj["predictor"])
    shrinkage = float(obj["shrinkage"])
    if not 0.0 <= shrinkage <= 1.0:
        raise ValueError(f"its shrinkage is {shrinkage}, outside 0 to 1")
    return Model(
        name=str(obj["name"]),
        version=int(obj["version"]),
        learner=str(obj["learner"]),
        outcome=str(obj["outcome"]),
        encoding=encoding,
        means=Means(
            {surface: _rates(rates) for surface, rates in means["surfaces"].items()},
            _rates(means["offers"]),
            _rates(means["groups"]),
            _rates({"": means["overall"]})[""],
        ),
        uplift=bool(obj["uplift"]),
        shrinkage=shrinkage,
        predictor=predictor_from_json(predictor.pop("kind"), predictor, texts, encoding, way),
        calibration=calibration_from_json(obj["calibration"]),
        info=obj["info"],
        groups=groups,
        golden=tuple(_golden(row) for row in obj["golden"]),
    )


def _rates(rates: Mapping[str, object]) -> dict[str, float]:
    found = {name: float(rate) for name, rate in rates.items()}
    if not all(0.0 <= rate <= 1.0 for rate in found.values()):
        raise ValueError("a mean is no probability")
    return found


def _golden_json(row: Golden) -> dict[str, object]:
    return {
        "features": {name: value_json(value) for name, value in row.features.items()},
        "surface": row.surface,
        "offers": row.offers,
        "raw": [None if value != value else value for value in row.raw],
        "p": row.p,
    }


def _golden(obj: Mapping[str, object]) -> Golden:
    raw = tuple(math.nan if value is None else float(value) for value in obj["raw"])
    features = {name: value_from_json(value) for name, value in obj["features"].items()}
    return Golden(features, obj["surface"], tuple(obj["offers"]), raw, tuple(map(float, obj["p"])))


def _missed(model: Model) -> int | None:
    """The number of the first golden row that the model answers otherwise."""
    slack = 0.0 if model.predictor.is_exact else TOLERANCE
    for number, row in enumerate(model.golden):
        raw = model.raw(row.features, row.surface, row.offers)
        p = model.score(row.features, row.surface, row.offers).p_convert
        same_raw = [_same(raw[name], wanted, slack) for name, wanted in zip(row.offers, row.raw, strict=True)]
        same_p = [abs(found - wanted) <= TOLERANCE for found, wanted in zip(p, row.p, strict=True)]
        if not all(same_raw) or not all(same_p):
            return number
    return None


def _same(found: float, wanted: float, slack: float) -> bool:
    return abs(found - wanted) <= slack * max(1.0, abs(wanted)) or (found != found and wanted != wanted)
