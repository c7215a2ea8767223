"""What the verbs on recorded traffic share: which releases are held against which."""

from functools import partial
from pathlib import Path

from decisioning.engine import Release
from decisioning.errors import UserError
from evaluation.whatif.asking import opened
from evaluation.whatif.proposals import Proposal
from stores.home import Home
from workbench import release_of

RECORDED = "recorded"


def proposal_of(
    home: Home,
    *,
    catalog: Path | None = None,
    model: str | None = None,
    version: str | None = None,
    against: str | None = None,
) -> Proposal:
    """The proposal that a person's options mean. Without any change it is the base itself."""
    from stores.catalog_files import read_catalog_files
    from stores.releases import ReleaseStore

    base = against if against != RECORDED else None
    if against is None:
        base = ReleaseStore(home.releases).current()
    load = partial(release_of, home)
    files = None if catalog is None else read_catalog_files(catalog)
    models = {}
    if model is not None and version is None:
        raise UserError("--model names a model: say which of its versions with --version.")
    if version is not None:
        before, _ = opened(Proposal(load, base), home.logs)
        models = dict([_model_files(home, before, model, version)])
    return Proposal(load, base, files, models)


def known_offers(proposal: Proposal, home: Home) -> set[str]:
    """The offers of both sides."""
    base, other = opened(proposal, home.logs)
    return {*base.catalog.offers, *other.catalog.offers}


def _model_files(home: Home, base: Release, model: str | None, version: str) -> tuple[str, dict[str, bytes]]:
    from models.artifact import JSON, TEXT
    from stores.registry import Registry
    from training.evaluate import version_number
    from training.prepare import model_name

    name = model_name(base.catalog, model)
    registry = Registry(home.mlflow_uri, home.artifacts)
    files = registry.files(name, version_number(registry, name, version))
    return name, {file: text for file, text in files.items() if file in (JSON, TEXT)}


def read_share(text: str) -> float:
    """A part of a whole, as `10%` or `0.1`. Raises UserError for anything else."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UserError(f"--share takes a part of all decisions, such as 10% or 0.1, and not {text}.") from None
