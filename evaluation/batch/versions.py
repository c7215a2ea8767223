"""A release with another version of one of its models: what it would score, before it is released."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from decisioning.engine import Release
from models import artifact


@dataclass(frozen=True)
class Tried:
    """Loads a release and puts a version in the place of its model. Picklable, with the version's files."""

    load: Callable[[], Release]
    files: Mapping[str, bytes]

    def __call__(self) -> Release:
        release = self.load()
        groups = {name: offer.group for name, offer in release.catalog.offers.items()}
        model = artifact.load(self.files, groups)
        return replace(release, scorers={**release.scorers, model.name: model})
