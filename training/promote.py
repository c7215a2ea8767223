"""The gate, and the way through it: from a registered version with evidence to a release that servers use."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from decisioning.catalog import Catalog
from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from evaluation.worth import worth
from features.schema import Schema
from models import artifact
from models.artifact import Model
from models.encoding import Encoding, features_json
from stores.home import Home
from stores.registry import CHALLENGER, CHAMPION, Registry
from stores.releases import ReleaseStore
from training.evaluate import version_number
from training.prepare import model_name
from training.train import EVIDENCE


@dataclass(frozen=True, slots=True)
class Line:
    """One line of evidence."""

    check: str
    passed: bool
    detail: str
    forceable: bool = True
    """Whether a person may overrule it; a release that would not work can't be forced."""

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.check}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Promotion:
    release: str
    model: str
    version: int
    forced: bool
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "lines": [str(line) for line in self.lines]}


def promote(
    home: Home,
    catalog_files: Mapping[str, bytes],
    model: str | None,
    version: int | str | None,
    *,
    who: str,
    why: str,
    force: bool = False,
    now: float,
) -> Promotion:
    """Publish and activate a release of this catalog with this version, if its evidence passes the gate.

    `version` is a number or an alias; without one, the challenger, or where none waits, the model in use. `force`
    overrules evidence (not a broken release), needs `why`, and is recorded. Raises UserError with every line of
    evidence when it refuses, and changes nothing.
    """
    if force and not why.strip():
        raise UserError("To promote against the evidence, say why with --why: it is recorded.")
    catalog = load_catalog(catalog_files)
    name = model_name(catalog, model)
    registry = Registry(home.mlflow_uri, home.artifacts)
    releases = ReleaseStore(home.releases)
    before = releases.current()
    if version is None and registry.alias(name, CHALLENGER) is None and before is not None:
        version = _versions_of(releases, before).get(name)  # a change of rules keeps the model in use
    number = version_number(registry, name, version)
    files = registry.files(name, number)
    evidence = json.loads(files.pop(EVIDENCE, b"null"))
    released = _versions_of(releases, before) if before else {}
    lines = gate(catalog, artifact.load(files), evidence, released)
    failed = [line for line in lines if not line.passed]
    if failed and not (force and all(line.forceable for line in failed)):
        raise UserError(_refusal(f"{name}/{number}", lines, failed))
    record = {"model": name, "version": number, "forced": bool(failed), "gate": [str(line) for line in lines]}
    content = _release_files(releases, before, catalog, catalog_files, name, files)
    content["evidence.json"] = (json.dumps({**record, "evidence": evidence}, indent=1) + "\n").encode()
    release = releases.publish(content, who=who, why=why, now=now)
    releases.activate(release, expected=before, who=who, why=why, now=now)
    registry.set_alias(name, CHAMPION, number)
    challenger = registry.alias(name, CHALLENGER)
    if challenger is not None and challenger.version == number:
        registry.drop_alias(name, CHALLENGER)
    registry.tag(name, number, "gate", json.dumps({**record, "release": release, "who": who, "why": why, "at": now}))
    return Promotion(release, name, number, bool(failed), tuple(lines))


def rollback(home: Home, *, who: str, why: str, now: float) -> tuple[str | None, str]:
    """Return to the release before the current one, the champions with it. Returns the ids of both."""
    releases = ReleaseStore(home.releases)
    before = releases.current()
    after = releases.rollback(who=who, why=why, now=now)
    registry = Registry(home.mlflow_uri, home.artifacts)
    for name, version in _versions_of(releases, after).items():
        registry.set_alias(name, CHAMPION, version)
    return before, after


def _versions_of(releases: ReleaseStore, release: str) -> dict[str, int]:
    """The version of each model that a release holds."""
    files = releases.files(release)
    models = {path.split("/")[1] for path in files if path.startswith("models/")}
    return {name: int(json.loads(files[f"models/{name}/model.json"])["version"]) for name in models}


def gate(
    catalog: Catalog, model: Model, evidence: Mapping[str, Any] | None, released: Collection[str] = ()
) -> list[Line]:
    """Each line of evidence: what the policy is worth, and whether the release would work.

    `released`: the models of the release in use, which the new one keeps.
    """
    return [*_worth(model, evidence), *_fits_catalog(catalog, model, released)]


def _worth(model: Model, evidence: Mapping[str, Any] | None) -> list[Line]:
    if not evidence or not evidence.get("policy_values"):
        return [Line("evidence", False, "none is registered with this version: train it again")]
    outcome = evidence["objective"]
    lines = [Line("evidence", True, f"{evidence['decisions']:,} decisions of {evidence['users']:,} users")]
    if model.shrinkage == 0.0:
        return [*lines, Line("worth", True, "λ = 0: it is the best single offer itself")]
    found = worth(evidence["policy_values"], outcome)
    if found is None:
        return [*lines, Line("worth", False, f"there is no cross-fitted DR value of {outcome}: train it again")]
    lower = "none" if found.lower is None else f"{found.lower:+.4g}"
    return [
        *lines,
        Line("support", found.note is None, found.note or f"effective sample size {found.ess:,.0f}"),
        Line("worth", found.difference >= 0, f"{found.difference:+.4g} {outcome} against the best single offer"),
        Line("certainty", found.is_certain, f"one-sided 95 % lower bound {lower}, at least {found.allowed:+.4g}"),
    ]


def _fits_catalog(catalog: Catalog, model: Model, released: Collection[str]) -> list[Line]:
    absent = sorted(set(catalog.models) - {model.name, *released})
    unknown = [o.name for o in model.encoding.offers if o.name != NOTHING and o.name not in catalog.offers]
    theirs = features_json(model.encoding.features)
    ours = features_json(Encoding.of(catalog, model.encoding.surfaces, ()).features)
    moved = sorted({str(row["name"]) for row in [*theirs, *ours] if row not in theirs or row not in ours})
    failures = run_tests(catalog)
    fresh = sorted(
        offer.name
        for offer in catalog.offers.values()
        if offer.score.model == model.name and offer.name not in model.encoding.index
    )
    unseen = _listed("never trained on, scored at their group's rate", fresh)
    known = "; ".join(filter(None, ["all that it was trained on are in the catalog", unseen]))
    return [
        Line("offers", not unknown, _listed("unknown to the catalog", unknown) or known, False),
        Line("models", True, _listed("not in the release, so offers that ask for them go by priors", absent) or "all"),
        Line("schema", not moved, _listed("features that changed since training", moved) or "as trained", False),
        Line("catalog tests", not failures, " ".join(map(str, failures)) or f"{len(catalog.tests)} pass", False),
    ]


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else ""


def _refusal(label: str, lines: Sequence[Line], failed: Sequence[Line]) -> str:
    todo = (
        "What no --force overrules: mend the catalog, or train again on it as it is."
        if not all(line.forceable for line in failed)
        else "Bring more evidence, or overrule it with --force and --why."
    )
    return "\n".join([f"{label} was not promoted; what is in use stays.", *(f"  {line}" for line in lines), todo])


def _release_files(
    releases: ReleaseStore,
    before: str | None,
    catalog: Catalog,
    catalog_files: Mapping[str, bytes],
    name: str,
    files: Mapping[str, bytes],
) -> dict[str, bytes]:
    """The release's files: the catalog, the schema, this model, and the other models of the release in use."""
    content = {f"catalog/{path}": text for path, text in catalog_files.items()}
    content["schema.json"] = (json.dumps(Schema.of(catalog.features).to_json(), indent=1) + "\n").encode()
    others = releases.files(before) if before else {}
    for path, text in others.items():
        folder, _, rest = path.partition("/")
        if folder == "models" and rest.split("/")[0] in catalog.models:
            content[path] = text
    gone = [path for path in content if path.startswith(f"models/{name}/")]
    for path in gone:
        del content[path]
    return content | {f"models/{name}/{file}": text for file, text in files.items()}
