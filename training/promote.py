"""The way through the gate: from a registered version with evidence to a release that servers use."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.gate.lines import (
    Line,
    Shadow,
    Verdict,
    calibration_lines,
    checked,
    evidence_lines,
    log_lines,
    refused,
    segment_lines,
    shadow_lines,
)
from models import artifact
from models.artifact import Model
from stores.home import Home
from stores.registry import CHALLENGER, Registry
from stores.releases import ReleaseStore
from training.evaluate import version_number
from training.evidence import BEST, Rivalry, against_best, calibration_of, rivalry, segments_of
from training.prepare import Progress, model_name, silent, terms
from training.release_files import Files, below, files_of, fits_catalog, follow, promoted_files, versions_of
from training.shadowing import log_problems, shadow_of
from training.train import EVIDENCE


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
    progress: Progress = silent,
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
    registry, releases = Registry(home.mlflow_uri, home.artifacts), ReleaseStore(home.releases)
    in_use = releases.current()
    before = files_of(releases, in_use)
    if version is None and registry.alias(name, CHALLENGER) is None and in_use is not None:
        version = versions_of(before).get(name)  # a change of rules keeps the model in use
    number = version_number(registry, name, version)
    files = registry.files(name, number)
    evidence = json.loads(files.pop(EVIDENCE, b"null"))
    candidate = artifact.load(files)
    champion = _champion(before, name)
    lines = gate(
        catalog,
        candidate,
        evidence,
        champion=champion,
        released=versions_of(before).keys(),
        shadow=shadow_of(home, releases, candidate),
        problems=log_problems(home, releases, candidate),
        rival=_rivalry(home, catalog, candidate, champion, versions_of(before), progress),
    )
    if refused(lines, force=force):
        raise UserError(_refusal(candidate.label, lines))
    forced = bool(refused(lines))
    record = {
        "model": name,
        "version": number,
        "champion": champion.label if champion else None,
        "forced": forced,
        "gate": [str(line) for line in lines],
    }
    is_new = champion is None or champion.version != number
    content = promoted_files(before, catalog, catalog_files, name, files)
    content["evidence.json"] = _evidence_file(before, catalog, {**record, "evidence": evidence}, is_new)
    release = releases.publish(content, who=who, why=why, now=now)
    releases.activate(release, expected=in_use, who=who, why=why, now=now)
    try:
        follow(registry, releases, before)
        challenger = registry.alias(name, CHALLENGER)
        if challenger is not None and challenger.version == number:
            registry.drop_alias(name, CHALLENGER)
        told = {**record, "release": release, "who": who, "why": why, "at": now}
        registry.record(name, number, "gate" if is_new else "rules", told)
    except UserError as error:
        raise UserError(
            f"Release {release} is in use with {candidate.label}, but the registry was not told of it: {error} "
            "Run the same again when it answers."
        ) from None
    return Promotion(release, name, number, forced, tuple(lines))


def _evidence_file(before: Files, catalog: Catalog, record: Mapping[str, Any], is_new: bool) -> bytes:
    """By model, how it came into use: other models keep theirs, and so does the champion when the rules change."""
    records = json.loads(before.get("evidence.json", b"{}"))
    kept = {name: one for name, one in records.items() if name in catalog.models and isinstance(one, dict)}
    if is_new or record["model"] not in kept:
        kept[record["model"]] = record
    return (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode()


def gate(
    catalog: Catalog,
    model: Model,
    evidence: Mapping[str, Any] | None,
    *,
    champion: Model | None = None,
    released: Collection[str] = (),
    shadow: Shadow | None = None,
    problems: Sequence[str] = (),
    rival: Rivalry | None = None,
) -> list[Line]:
    """Every line: what was seen in shadow, calibration, what the policy is worth, and whether the release would work.

    `champion` is the version in use and `rival` the comparison with it; `released`: the models of the release in use,
    which the new one keeps. The champion itself, with other rules, has nothing to prove against itself.
    """
    fits = fits_catalog(catalog, model, released)
    if champion is not None and champion.version == model.version:
        return [Line("champion", Verdict.PASS, f"{model.label} is in use already: what changes is the catalog"), *fits]
    if not evidence or not evidence.get("policy_values"):
        return [Line("evidence", Verdict.FAIL, "none is registered with this version: train it again"), *fits]
    return [
        Line("evidence", Verdict.PASS, f"{evidence['decisions']:,} decisions of {evidence['users']:,} users"),
        *log_lines(problems, evidence.get("controls", ())),
        *_terms(catalog, evidence),
        *shadow_lines(shadow),
        *_calibration(model, evidence),
        *_worth(model, evidence, champion, rival),
        *fits,
    ]


def _calibration(model: Model, evidence: Mapping[str, Any]) -> list[Line]:
    if model.shrinkage == 0.0:
        return [Line("calibration", Verdict.UNSHOWN, "λ = 0 serves each offer's mean, and claims nothing of anybody")]
    return calibration_lines(calibration_of(evidence))


def _worth(model: Model, evidence: Mapping[str, Any], champion: Model | None, rival: Rivalry | None) -> list[Line]:
    """Steps 3 and 4. A personalised policy proves a gain over the champion; the simplest one, that it costs nothing."""
    is_simple = model.shrinkage == 0.0
    lines = []
    if is_simple:
        lines.append(_simplest(evidence))
    else:
        best = against_best(evidence)
        if best is None:
            lines.append(Line("worth", Verdict.FAIL, "no cross-fitted DR value of it is registered: train it again"))
        else:
            lines += evidence_lines(best, proof=False)
    if champion is None:
        lines.append(Line("champion", Verdict.UNSHOWN, "there is none yet to compare with"))
        return lines if is_simple else [*lines, *segment_lines(segments_of(evidence), BEST)]
    if rival is None:
        return [*lines, Line("champion", Verdict.FAIL, f"not compared with {champion.label} before the release works")]
    lines += evidence_lines(rival.comparison, proof=not is_simple)
    return [*lines, *segment_lines(rival.segments, "the champion")]


def _simplest(evidence: Mapping[str, Any]) -> Line:
    """λ = 0 claims no gain; but which offer is best is known only where there is support for it."""
    best = against_best(evidence)
    if best is not None and best.note is not None:
        return Line(
            "worth", Verdict.UNSHOWN, f"λ = 0: the best single offer, but which that is, is a guess: {best.note}"
        )
    return Line("worth", Verdict.PASS, "λ = 0: it is the best single offer itself")


def _terms(catalog: Catalog, evidence: Mapping[str, Any]) -> list[Line]:
    """Whether conversions count, and are worth, what they did in training: else its evidence is of something else."""
    then = evidence.get("terms")
    if then is None:
        return [Line("terms", Verdict.UNSHOWN, "what conversions were worth in training was not written down")]
    now = terms(catalog, then)
    moved = [name for name in sorted(now) if now[name] != then[name]]
    changed = "their worth, priority or what counts as a conversion has changed since training: train again"
    return [checked("terms", not moved, f"{', '.join(moved)}: {changed}" if moved else "as in training")]


def _champion(before: Files, name: str) -> Model | None:
    files = below(before, f"models/{name}")
    return artifact.load(files) if files else None


def _rivalry(
    home: Home,
    catalog: Catalog,
    candidate: Model,
    champion: Model | None,
    released: Collection[str],
    progress: Progress,
) -> Rivalry | None:
    """None where there is nothing to compare with, or no need to: a release that would not work."""
    if champion is None or champion.version == candidate.version:
        return None
    if refused(fits_catalog(catalog, candidate, released), force=True):
        return None
    return rivalry(home, catalog, candidate, champion, progress)


def _refusal(label: str, lines: Sequence[Line]) -> str:
    todo = (
        "What no --force overrules: mend the catalog, or train again on it as it is."
        if refused(lines, force=True)
        else "Bring more evidence, or overrule it with --force and --why."
    )
    return "\n".join([f"{label} was not promoted; what is in use stays.", *(f"  {line}" for line in lines), todo])
