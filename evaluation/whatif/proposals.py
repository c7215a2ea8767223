"""What is held against what: the release in use, and the same with another catalog or other models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import load_catalog
from decisioning.engine import Release
from decisioning.rules import Lever
from evaluation.whatif.contenders import changed
from models import artifact


@dataclass(frozen=True)
class Proposal:
    """A Pairing: picklable, so that each process makes its own releases of it."""

    load: Callable[[str], Release]
    """A release by id. Raises UserError for one that can't be loaded."""
    base: str | None = None
    """The release that everything is held against; None for the one that made each decision."""
    catalog_files: Mapping[str, bytes] | None = None
    """Another catalog; None for the base's own."""
    models: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """The files of other models, by name, in place of those that the base has."""

    levers: tuple[Lever, ...] = ()
    """Levers to pull besides those of the catalog."""

    def __call__(self, recorded: str) -> tuple[Release, Release]:
        base = self.load(self.base or recorded)
        scorers = {name: artifact.load(files) for name, files in self.models.items()}
        catalog = self.catalog
        if self.levers:
            catalog = catalog or base.catalog
            catalog = replace(catalog, levers=(*catalog.levers, *self.levers))
        return base, changed(base, catalog, scorers)

    def check(self) -> None:
        """Raises UserError for a catalog with errors."""
        _ = self.catalog

    @property
    def catalog(self) -> Catalog | None:
        return None if self.catalog_files is None else load_catalog(self.catalog_files)
