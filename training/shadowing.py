"""A version that scores live traffic beside the champion: how it gets there, what it showed, and how it leaves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.gate.canary import Canary, canary
from evaluation.gate.lines import Shadow, refused
from evaluation.gate.shadow import shadow
from evaluation.recorded.log_checks import check_log
from evaluation.recorded.rewards import Rewards, conversion_types, read_outcomes
from evaluation.recorded.traffic import readable
from features.snapshots import Snapshot, read_snapshot
from models import artifact
from models.artifact import Model
from stores.home import Home
from stores.log.decision_log import DecisionRecord, decided_at, distinct
from stores.log.reader import read, tail
from stores.registry import CHALLENGER, Registry
from stores.releases import CHALLENGE, ReleaseStore
from training.evaluate import version_number
from training.prepare import model_name
from training.release_files import Files, below, files_of, fits_catalog, versions_of
from training.train import EVIDENCE

LOOKED_AT = 20_000
"""The latest decisions of the log among which a version's shadow is looked for."""
MOST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Challenge:
    """A version beside the champion of its model, in a release."""

    release: str
    model: str
    version: int
    champion: int | None
    """The version in use, None where there is none and the model challenges the rules."""
    share: float
    """Of the decisions; 0 is shadow: scored and logged, never shown."""

    def to_json(self) -> dict[str, Any]:
        return {"release": self.release, "model": self.model, "version": self.version} | {
            "champion": self.champion,
            "share": self.share,
        }


def challenge(
    home: Home,
    model: str | None,
    version: int | str | None,
    share: float | None,
    *,
    who: str,
    why: str,
    now: float,
) -> Challenge:
    """Publish and activate the release in use with a version beside its champion.

    `share` of the decisions show its choice; 0 shows none (shadow); None is what the catalog says
    (`exploration: {challenger: …}`). Raises UserError where there is no release, the version is the champion, or it
    does not fit the catalog; nothing has changed then.
    """
    registry, releases = Registry(home.mlflow_uri, home.artifacts), ReleaseStore(home.releases)
    in_use = releases.current()
    if in_use is None:
        raise UserError("There is no release yet that a version could challenge: run `segue promote` first.")
    before = releases.files(in_use)
    catalog = load_catalog(below(before, "catalog"))
    name = model_name(catalog, model)
    number = version_number(registry, name, version)
    share = catalog.exploration.challenger if share is None else share
    if not 0 <= share <= min(MOST_SHARE, 1 - catalog.exploration.uniform):
        raise UserError(f"--share {share:g} can't be: between 0, which shows nothing, and {MOST_SHARE:g}.")
    champion = versions_of(before).get(name)
    if champion == number:
        raise UserError(f"{name}/{number} is the champion itself: train another version, or name one with --version.")
    files = registry.files(name, number)
    files.pop(EVIDENCE, None)
    failed = refused(fits_catalog(catalog, artifact.load(files), versions_of(before).keys()), force=True)
    if failed:
        raise UserError("\n".join([f"{name}/{number} can't run under the catalog in use:", *map(str, failed)]))
    record = {"model": name, "version": number, "share": share}
    content = _without_challenge(before) | {f"challengers/{name}/{file}": text for file, text in files.items()}
    content[CHALLENGE] = (json.dumps(record, indent=1) + "\n").encode()
    release = releases.publish(content, who=who, why=why, now=now)
    releases.activate(release, expected=in_use, who=who, why=why, now=now)
    registry.set_alias(name, CHALLENGER, number)
    registry.record(name, number, "challenge", {**record, "release": release, "who": who, "why": why, "at": now})
    return Challenge(release, name, number, champion, share)


def withdraw(home: Home, *, who: str, why: str, now: float) -> tuple[str, str]:
    """Go on with the release in use without its challenger. Returns the ids of both. Raises UserError without one."""
    releases = ReleaseStore(home.releases)
    in_use = releases.current()
    before = files_of(releases, in_use)
    if in_use is None or CHALLENGE not in before:
        raise UserError("Nothing challenges the release in use.")
    release = releases.publish(_without_challenge(before), who=who, why=why, now=now)
    releases.activate(release, expected=in_use, who=who, why=why, now=now)
    return in_use, release


def _without_challenge(files: Mapping[str, bytes]) -> Files:
    return {path: text for path, text in files.items() if path != CHALLENGE and not path.startswith("challengers/")}


def shadow_of(home: Home, releases: ReleaseStore, model: Model) -> Shadow | None:
    """What the version showed in the latest live traffic that it scored; None where it scored none."""
    challenged = frozenset(challenged_by(releases, model))
    if not challenged:
        return None
    lines = tail(home.logs / "decisions", LOOKED_AT, decided_at)
    records = [
        record
        for record in distinct(readable(lines))
        if record.decision.release in challenged and record.decision.policy is not None and not record.decision.holdout
    ]
    if not records:
        return None
    names = {spec.name for spec in model.encoding.features if not spec.from_context}
    return shadow(records, lru_cache(releases.load), _snapshots(home.snapshots), home.secret(), names)


def challenged_by(releases: ReleaseStore, model: Model, champion: Model | None = None) -> list[str]:
    """The releases in which the version stands beside the champion; beside this very one, where it is named."""
    found = []
    for release in sorted({move.release for move in releases.history()}):
        files = releases.files(release)
        record = json.loads(files.get(CHALLENGE, b"{}"))
        is_it = (record.get("model"), record.get("version")) == (model.name, model.version)
        if is_it and (champion is None or versions_of(files).get(model.name) == champion.version):
            found.append(release)
    return found


def canary_of(home: Home, releases: ReleaseStore, catalog: Catalog, model: Model, champion: Model) -> Canary | None:
    """The version beside this champion on own traffic, and what followed by the latest entry of the logs."""
    records = list(_made_by(home, challenged_by(releases, model, champion)))
    if not records:
        return None
    outcomes = read_outcomes(home.logs / "events", conversion_types(catalog))
    until = max(outcomes.until, *(record.request.now for record in records))
    return canary(records, Rewards(outcomes, until, catalog))


def log_problems(home: Home, releases: ReleaseStore, model: Model) -> tuple[str, ...]:
    """What is off in the log of all decisions that the version stood beside: then nothing in it is to be believed."""
    made = _made_by(home, challenged_by(releases, model))
    return check_log(record.decision for record in distinct(made)).problems()


def _made_by(home: Home, releases: Sequence[str]) -> Iterator[DecisionRecord]:
    """The logged decisions of some releases."""
    if not releases:
        return iter(())
    marks = [f'"release":"{release}"'.encode() for release in releases]
    return readable(line for line in read(home.logs / "decisions", decided_at) if any(mark in line for mark in marks))


def _snapshots(folder: Path) -> list[Snapshot]:
    """All that are still there and whole."""
    found = []
    for path in sorted(folder.glob("*/manifest.json")):
        try:
            found.append(read_snapshot(path.parent))
        except UserError:
            continue
    return found
