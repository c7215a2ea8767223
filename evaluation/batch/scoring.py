"""The scores of all users × all offers of a surface, to partitioned Parquet: what `segue score` writes.

A score here is what ranking begins with: effect × net value × the levers that hold. Rules, caps, thresholds,
experiments, context weights and exploration are no part of it: who is shown what, `decide` says (`deciding`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from decisioning.arbitration import score
from decisioning.engine import Release
from evaluation.batch.parts import Part, batches
from evaluation.batch.user_files import SENT, USER
from evaluation.batch.visits import contexts_of, users_of
from evaluation.batch.whole_files import part_writer
from features.packing import pack_batch
from features.schema import Schema
from models.batch import Users, encode_users, score_matrix

NAME = pa.dictionary(pa.int32(), pa.string())
COLUMNS = pa.schema(
    [
        ("user_id", pa.string()),
        ("offer", NAME),
        ("p_convert", pa.float64()),
        ("effect", pa.float64()),
        ("score", pa.float64()),
        ("model", NAME),
        ("release", NAME),
        ("as_of", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True)
class Scoring:
    """The task of scoring parts of a snapshot; opened once in each process."""

    load: Callable[[], Release]
    """Picklable."""
    surface: str
    at: float
    schema: Schema
    """Of the snapshot."""
    as_of: float
    """The moment of the snapshot, in epoch seconds."""
    folder: Path
    top: int | None = None
    """How many offers of each user are kept, best first; None for all, in the order of their names."""
    with_context: bool = False
    """Whether the parts are those of a file of users, with the context of each."""

    def __call__(self) -> "Callable[[Part], Mapping[str, Any]]":
        return _Scorer(self).write


class _Scorer:
    """A release, ready to score one surface."""

    def __init__(self, task: Scoring) -> None:
        self._task, self._release = task, task.load()
        plan = self._release.plans[task.surface]
        own = self._release.catalog.offers_on(task.surface)
        self._offers = tuple(offer.name for offer in own)
        self._worth = np.array(plan.factors(task.at, {}).worth[: len(own)])
        self._models = [offer.score.model for offer in own]
        self._priors = np.array([offer.score.prior for offer in own])

    def write(self, part: Part) -> Mapping[str, Any]:
        """Scores a part, writes its file, and tells what is in it."""
        task, users, rows = self._task, 0, 0
        with part_writer(task.folder / part.name, COLUMNS) as out:
            for ids, table in self._tables(part):
                out.write(table)
                users, rows = users + ids, rows + table.num_rows
            out.tally = {"users": users, "rows": rows}
        return out.tally

    def _tables(self, part: Part) -> Iterator[tuple[int, pa.Table]]:
        task = self._task
        catalog = self._release.catalog
        for batch in batches(part, [USER, *task.schema.names, *([SENT] if task.with_context else ())]):
            contexts = contexts_of(catalog, batch) if task.with_context else None
            vectors = pack_batch(task.schema, batch)
            users = users_of(catalog, task.schema, vectors, task.as_of, task.at, contexts)
            yield len(users), self._table(batch.column(USER).cast(pa.string()), *self.score(users))

    def score(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """p_convert and effect, (n, offers of the surface): the catalog's own guess where an offer has no model."""
        p = np.tile(self._priors, (len(users), 1))
        effect = p.copy()
        for name in sorted({model for model in self._models if model in self._release.scorers}):
            model = self._release.scorers[name]
            places = [place for place, own in enumerate(self._models) if own == name]
            contexts = encode_users(model.encoding, users, self._task.surface)
            asked = [self._offers[place] for place in places]
            p[:, places], effect[:, places] = score_matrix(model, contexts, self._task.surface, asked)
        return p, effect

    def _table(self, ids: pa.Array, p: np.ndarray, effect: np.ndarray) -> pa.Table:
        scores = score(effect, self._worth)
        n, kept = scores.shape
        chosen = np.broadcast_to(np.arange(kept), (n, kept))
        if self._task.top is not None:
            chosen = np.argsort(-scores, axis=1, kind="stable")[:, : self._task.top]
        rows, offers = np.repeat(np.arange(n), chosen.shape[1]), chosen.ravel()
        moment = pa.scalar(datetime.fromtimestamp(self._task.as_of, UTC), COLUMNS.field("as_of").type)
        return pa.Table.from_arrays(
            [
                ids.take(pa.array(rows)),
                pa.DictionaryArray.from_arrays(pa.array(offers, pa.int32()), pa.array(self._offers, pa.string())),
                pa.array(p[rows, offers]),
                pa.array(effect[rows, offers]),
                pa.array(scores[rows, offers]),
                self._labels.take(pa.array(offers)),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), [self._release.id]),
                pa.repeat(moment, len(rows)),
            ],
            schema=COLUMNS,
        )

    @cached_property
    def _labels(self) -> pa.DictionaryArray:
        """The model of each offer; null for the catalog's own guess."""
        scorers = self._release.scorers
        labels = [scorers[name].label if name in scorers else None for name in self._models]
        return pa.array(labels, pa.string()).dictionary_encode().cast(NAME)
