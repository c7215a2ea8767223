"""What a release is put together from, and whether it would work."""

import json
from collections.abc import Collection, Mapping, Sequence

from decisioning.catalog import Catalog
from decisioning.catalog_tests import run_tests
from decisioning.domain import NOTHING
from evaluation.gate.lines import Line, Verdict, checked
from features.schema import Schema
from models.artifact import Model
from models.encoding import Encoding, features_json
from stores.registry import CHAMPION, Registry
from stores.releases import CHALLENGE, ReleaseStore

Files = dict[str, bytes]


def versions_of(files: Mapping[str, bytes]) -> dict[str, int]:
    """The version of each model in a release's files."""
    models = {path.split("/")[1] for path in files if path.startswith("models/")}
    return {name: int(json.loads(files[f"models/{name}/model.json"])["version"]) for name in models}


def files_of(releases: ReleaseStore, release: str | None) -> Files:
    """The files of a release; empty where there is none."""
    return releases.files(release) if release else {}


def below(files: Mapping[str, bytes], folder: str) -> Files:
    """The files in a folder, by their names in it."""
    return {path.removeprefix(f"{folder}/"): text for path, text in files.items() if path.startswith(f"{folder}/")}


def promoted_files(
    before: Mapping[str, bytes], catalog: Catalog, catalog_files: Mapping[str, bytes], name: str, files: Files
) -> Files:
    """The catalog, the schema, this model, and the other models of the release in use.

    What challenges another model goes on; and so does what challenges this one, where its version stays.
    """
    content = {f"catalog/{path}": text for path, text in catalog_files.items()}
    content["schema.json"] = (json.dumps(Schema.of(catalog.features).to_json(), indent=1) + "\n").encode()
    stays = below(before, f"models/{name}") == files
    challenged = json.loads(before[CHALLENGE])["model"] if CHALLENGE in before else None
    keeps = challenged in catalog.models and (stays or challenged != name)
    for path, text in before.items():
        folder, _, rest = path.partition("/")
        model = rest.split("/")[0]
        if folder == "models" and model in catalog.models and model != name:
            content[path] = text
        if keeps and (path == CHALLENGE or folder == "challengers"):
            content[path] = text
    return content | {f"models/{name}/{file}": text for file, text in files.items()}


def follow(registry: Registry, releases: ReleaseStore, before: Mapping[str, bytes]) -> None:
    """Let the registry's champions be what the release in use holds; `before` are the files that it took the place of.

    Reads the release in use anew, so that of two who promote at once the slower one leaves no wrong alias behind.
    """
    now = versions_of(files_of(releases, releases.current()))
    for name, version in now.items():
        registry.set_alias(name, CHAMPION, version)
    for name in versions_of(before).keys() - now.keys():
        if registry.alias(name, CHAMPION) is not None:
            registry.drop_alias(name, CHAMPION)


def fits_catalog(catalog: Catalog, model: Model, released: Collection[str]) -> list[Line]:
    """Whether a release of this catalog with this model and those `released` would work. None but one can be forced."""
    absent = sorted(set(catalog.models) - {model.name, *released})
    theirs = features_json(model.encoding.features)
    ours = features_json(Encoding.of(catalog, model.encoding.surfaces, ()).features)
    moved = sorted({str(row["name"]) for row in [*theirs, *ours] if row not in theirs or row not in ours})
    failures = run_tests(catalog)
    return [
        Line("offers", Verdict.PASS, _offers(catalog, model)),
        Line(
            "models",
            Verdict.PASS,
            _listed("not in the release, so offers that ask for them go by priors", absent) or "all",
        ),
        checked(
            "schema", not moved, _listed("features that changed since training", moved) or "as trained", forceable=False
        ),
        checked(
            "catalog tests",
            not failures,
            " ".join(map(str, failures)) or f"{len(catalog.tests)} pass",
            forceable=False,
        ),
    ]


def _offers(catalog: Catalog, model: Model) -> str:
    """What became of the offers that it was trained on. One that left the catalog is never asked for again."""
    trained = [one.name for one in model.encoding.offers if one.name != NOTHING]
    retired = [name for name in trained if name not in catalog.offers]
    fresh = sorted(
        offer.name
        for offer in catalog.offers.values()
        if offer.score.model == model.name and offer.name not in model.encoding.index
    )
    return "; ".join(
        filter(
            None,
            [
                f"{len(trained) - len(retired)} of {len(trained)} that it was trained on are in the catalog",
                _listed("retired since", retired),
                _listed("never trained on, scored at their group's rate", fresh),
            ],
        )
    )


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else ""
