"""One user's turn in a batch: what is asked, what is known offline, and who is asked about at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from decisioning.catalog import Catalog
from decisioning.domain import Facts, Request, Value
from decisioning.engine import Release
from decisioning.identity import decision_id, user_key
from evaluation.batch.user_files import KNOWN, SENT, USER
from features.context import ContextReader
from features.packing import pack_batch
from features.schema import Schema
from models.artifact import Model
from models.batch import Ahead, Users
from stores.online.port import UNKNOWN_USER

Context = tuple[Mapping[str, Value], tuple[str, ...]]
"""The values of a request's context, and what was left out of it."""
NONE_SENT: Context = ({}, ())
FEATURES = "features:"
"""How everything begins that `degraded` says of features."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What is asked about one user, and what the snapshot knows."""

    user_id: str
    request: Request
    features: Mapping[str, Value]
    as_of: float | None
    degraded: tuple[str, ...]

    def facts(self, stored: Facts) -> Facts:
        """What the online store knows of the user, with the features of the snapshot, but for what is newer there."""
        newer = {name: stored.features[name] for name in stored.fresh if name in stored.features}
        others = tuple(one for one in stored.degraded if not one.startswith(FEATURES))
        return replace(
            stored,
            features={**self.features, **newer},
            as_of=self.as_of,
            unread=stored.unread - {"features"},
            degraded=(*self.degraded, *others),
        )


@dataclass(frozen=True)
class Visits:
    """Makes visits of rows. `run` names those of surfaces that are not sticky, the same at every attempt."""

    release: Release
    schema: Schema
    as_of: float
    surface: str
    at: float
    run: str
    secret: bytes

    def of(self, batch: pa.RecordBatch) -> tuple[list[Visit], Users]:
        """The visits of a batch (columns of `users.join`), and the same users for scoring."""
        ids = batch.column(USER).cast(pa.string()).to_pylist()
        known, vectors = batch.column(KNOWN).to_pylist(), pack_batch(self.schema, batch)
        catalog, contexts = self.release.catalog, contexts_of(self.release.catalog, batch)
        visits = [
            self._visit(user_id, packed.tobytes() if is_known else None, *context)
            for user_id, is_known, packed, context in zip(ids, known, vectors, contexts, strict=True)
        ]
        return visits, users_of(catalog, self.schema, vectors, self.as_of, self.at, contexts)

    def _visit(
        self, user_id: str, packed: bytes | None, context: Mapping[str, Value], ignored: tuple[str, ...]
    ) -> Visit:
        user = user_key(self.secret, user_id)
        sticky = self.release.catalog.surfaces[self.surface].sticky
        named = decision_id(user, self.surface, self.at, sticky, lambda: _fresh(self.run, user))
        request = Request(named, user, self.surface, self.at, context)
        if packed is None:
            return Visit(user_id, request, {}, None, (UNKNOWN_USER, *ignored))
        return Visit(user_id, request, self.schema.unpack(packed), self.as_of, ignored)


def _fresh(run: str, user: str) -> str:
    """The id of a decision of a run: 32 hexadecimal digits, as any other's."""
    return blake2b(f"{run}|{user}".encode(), digest_size=16).hexdigest()


def contexts_of(catalog: Catalog, batch: pa.RecordBatch) -> list[Context]:
    """The context of each row of a file of users."""
    sent, reader = batch.column(SENT).to_pylist(), ContextReader(catalog)
    return [reader.read(json.loads(text)) if text else NONE_SENT for text in sent]


def stale_features(catalog: Catalog, as_of: float, at: float) -> list[str]:
    """The features whose values of a snapshot are too old to count."""
    specs = catalog.features.values()
    return sorted(spec.name for spec in specs if spec.max_age and not spec.from_context and at - as_of > spec.max_age)


def users_of(
    catalog: Catalog,
    schema: Schema,
    vectors: np.ndarray,
    as_of: float,
    at: float,
    contexts: Sequence[Context] | None = None,
) -> Users:
    """Users with what the catalog says of missing values and of old ones, as `Knowledge` applies it to one."""
    specs = catalog.features.values()
    defaults = {spec.name: spec.default for spec in specs if spec.default is not None}
    names = [spec.name for spec in specs if spec.from_context] if contexts is not None else ()
    columns = {name: [values.get(name) for values, _ in contexts or ()] for name in names}
    return Users(schema, vectors, defaults, frozenset(stale_features(catalog, as_of, at)), columns)


class Foreseeing:
    """A release that scores many users in one step: `decide` gives with it what it gives with the release itself."""

    def __init__(self, release: Release, surface: str) -> None:
        self._ahead: list[Ahead] = []
        self.release = replace(
            release,
            scorers=self._all(release, release.scorers, surface),
            challengers=self._all(release, release.challengers, surface),
        )

    def _all(self, release: Release, scorers: Mapping[str, object], surface: str) -> Mapping[str, object]:
        found: dict[str, object] = {}
        for name, scorer in scorers.items():
            offers = [one.name for one in release.catalog.offers_on(surface) if one.score.model == name]
            found[name] = scorer
            if offers and isinstance(scorer, Model):
                found[name] = Ahead(scorer, surface, offers)
                self._ahead.append(found[name])
        return found

    def foresee(self, users: Users) -> None:
        for one in self._ahead:
            one.foresee(users)

    def turn(self, row: int | None) -> None:
        """Whose turn it is: a row of the users foreseen, or None for somebody whose facts are others by now."""
        for one in self._ahead:
            one.turn = row
