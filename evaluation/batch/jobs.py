"""`segue score` and `segue decide-all`, from question to manifest: all is checked before anything is written."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from decisioning.engine import Release
from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from evaluation.batch.deciding import Deciding
from evaluation.batch.output import Output, opened, work_through
from evaluation.batch.parts import Part, parts_of
from evaluation.batch.scoring import Scoring
from evaluation.batch.user_files import fingerprint
from evaluation.batch.users import GROUP_ROWS, Asked, join
from evaluation.batch.visits import stale_features
from evaluation.batch.whole_files import Tally, write_json
from evaluation.batch.without_store import WithoutStore
from features.schema import Schema
from features.snapshots import Snapshot
from scaling.engines import Engine
from stores.online.port import OnlineStore, StoreDown

Progress = Callable[[int, int], object]
"""Told of users done, and of all."""


@dataclass(frozen=True)
class Question:
    """What both verbs ask: about whom, for which surface, by which release, and where the answer goes."""

    load: Callable[[], Release]
    """Picklable: every process loads the release for itself."""
    surface: str
    snapshot: Snapshot
    users: Path | None
    """A file of users; None for everybody in the snapshot."""
    out: Path
    at: float | None
    """The moment of the run, in epoch seconds; None for now, or for when the run that goes on began."""
    replace: bool = False
    part_rows: int = GROUP_ROWS
    """Users of a file in one part."""
    now: float = field(default_factory=time.time)

    def checked(self) -> Release:
        """The release, where it fits surface and snapshot. Raises UserError where it doesn't."""
        release = self.load()
        surfaces = release.catalog.surfaces
        if self.surface not in surfaces:
            guess = did_you_mean(self.surface, surfaces)
            raise UserError(f"There is no surface {self.surface} in release {release.id}. {guess}".rstrip())
        wanted, found = Schema.of(release.catalog.features), self.snapshot.schema
        if wanted.hash != found.hash:
            raise UserError(
                f"Snapshot {self.snapshot.id} does not fit release {release.id} ({_apart(wanted, found)}): "
                "build one with the release's catalog (`segue features build`), or name another with --snapshot."
            )
        return release

    def asked(self, kind: str, release: Release, **options: Any) -> dict[str, Any]:
        """The plan: all that the answer hangs on, but for the moment."""
        users = None if self.users is None else fingerprint(self.users)
        models = sorted(scorer.label for scorer in release.scorers.values())
        told = {"kind": kind, "surface": self.surface, "release": release.id, "models": models}
        return {**told, "snapshot": self.snapshot.id, "users": users, **options}


def score_all(
    question: Question, engine: Engine, *, top: int | None = None, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Scores everybody (or the users of a file) for the offers of a surface. Returns the manifest.

    A run that is complete already is returned as it is; one that was interrupted goes on. Raises UserError.
    """
    release = question.checked()
    if top is not None and top < 1:
        raise UserError(f"--top {top} leaves nothing: give 1 or more.")
    with _output(question, question.asked("scores", release, top=top)) as output:
        if output.manifest is not None:
            return output.manifest
        snapshot, started = question.snapshot, time.perf_counter()
        asked, parts = None, parts_of([snapshot.path / part for part in snapshot.manifest["parts"]])
        if question.users is not None:
            asked, parts = _joined(question, release, output, with_unknown=False)
        task = Scoring(
            question.load, question.surface, output.at, snapshot.schema, snapshot.as_of, output.folder, top,
            with_context=asked is not None,
        )  # fmt: skip
        tally = work_through(output, parts, partial(engine.map, task), progress)
        return output.finish(parts, _told(question, release, output, tally, asked, started))


def decide_all(
    question: Question,
    engine: Engine,
    *,
    store: Callable[[], OnlineStore],
    secret: bytes,
    log: Path | None,
    lease: float,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Decides for everybody (or the users of a file). Returns the manifest.

    `store` opens the online store, and is picklable; `log` is the folder of the decision log, None to leave none;
    `lease` is how many seconds a unit of a budget stays reserved for an answer. As `score_all` otherwise.
    """
    release = question.checked()
    told = {"with_store": not isinstance(store, WithoutStore), "logged": log is not None}
    with _output(question, question.asked("decisions", release, **told)) as output:
        if output.manifest is not None:
            return output.manifest
        started = time.perf_counter()
        asked, parts = _joined(question, release, output, with_unknown=True)
        task = Deciding(
            question.load, store, secret, output.run, question.surface, output.at, question.snapshot.schema,
            question.snapshot.as_of, output.folder, log, _budgets(release, store, output), lease,
        )  # fmt: skip
        for part in parts:
            if task.begun(part).exists() and output.done(part) is not None:
                task.settle(part)
        tally = work_through(output, parts, partial(engine.map, task), progress)
        return output.finish(parts, _told(question, release, output, tally, asked, started))


def _output(question: Question, asked: Mapping[str, Any]) -> Any:
    return opened(question.out, asked, question.at, question.now, replace=question.replace)


def _joined(
    question: Question, release: Release, output: Output, *, with_unknown: bool
) -> tuple[Asked, tuple[Part, ...]]:
    """The users with their features, and the parts of them. A run that goes on finds them where it left them."""
    file, notes = output.work / "users.parquet", output.work / "users.json"
    if notes.is_file():
        asked = Asked(**json.loads(notes.read_bytes()))
    else:
        asked = join(
            question.users, release.catalog, question.snapshot, file, with_unknown=with_unknown, rows=question.part_rows
        )
        write_json(notes, asdict(asked))
    parts = parts_of([file], question.part_rows)
    if not parts:
        raise UserError(f"None of the users of {question.users} is in snapshot {question.snapshot.id}.")
    return asked, parts


def _budgets(release: Release, store: Callable[[], OnlineStore], output: Output) -> Mapping[str, int]:
    """What is out of each budget when the run begins; a run that goes on keeps it. Raises UserError without a store."""
    notes = output.work / "budgets.json"
    if not notes.is_file():
        found = asyncio.run(_out(store, [budget.name for budget in release.catalog.budgets]))
        write_json(notes, dict(found))
    return json.loads(notes.read_bytes())


async def _out(store: Callable[[], OnlineStore], budgets: Sequence[str]) -> Mapping[str, int]:
    opened = store()
    try:
        return (await opened.read("nobody", Schema(()), budgets)).budgets
    except StoreDown as error:
        raise UserError(f"The online store doesn't answer ({error}): start it, then run the same again.") from None
    finally:
        await opened.close()


def _told(
    question: Question, release: Release, output: Output, tally: Tally, asked: Asked | None, started: float
) -> dict[str, Any]:
    """The tally with what the file of users held, what was too old to count, and the time that this attempt took."""
    about = {} if asked is None else {"file": asdict(asked)}
    stale = stale_features(release.catalog, question.snapshot.as_of, output.at)
    return {**tally, **about, "stale_features": stale, "seconds": round(time.perf_counter() - started, 2)}


def _apart(wanted: Schema, found: Schema) -> str:
    """The first feature in which two schemas differ."""
    ours, theirs = ({spec.name: spec for spec in schema.specs} for schema in (wanted, found))
    for name in sorted({*ours, *theirs}):
        if name not in theirs:
            return f"it lacks {name}"
        if name not in ours:
            return f"the release doesn't know its {name}"
        if (ours[name].type, ours[name].values) != (theirs[name].type, theirs[name].values):
            return f"it has {name} as another type or with other values"
    return "in its layout"
