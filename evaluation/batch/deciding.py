"""The decisions of many users: what serving does for a request, for all rows of a part, and written down once.

A part may be interrupted at any moment and be done again: its decisions have the same ids, so that units that it holds
are not taken twice, and what it told the store is neither counted nor seen twice. Its log is one segment of its own:
see `part_log`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from decisioning.engine import Release
from decisioning.errors import UserError
from evaluation.batch.answers import COLUMNS, counted, table
from evaluation.batch.desk import Answer, Desk
from evaluation.batch.output import WORK, added
from evaluation.batch.part_log import part_log, settle
from evaluation.batch.parts import Part, batches
from evaluation.batch.user_files import KNOWN, SENT, USER
from evaluation.batch.visits import Foreseeing, Visits
from evaluation.batch.whole_files import Tally, part_writer
from features.schema import Schema
from stores.log.segments import SEALED
from stores.online.port import OnlineStore, StoreDown

BATCH = 2048


@dataclass(frozen=True)
class Deciding:
    """The task of deciding parts; opened once in each process. All of it is picklable."""

    load: Callable[[], Release]
    store: Callable[[], OnlineStore]
    secret: bytes = field(repr=False)
    run: str
    surface: str
    at: float
    schema: Schema
    """Of the snapshot."""
    as_of: float
    folder: Path
    log: Path | None
    """The folder of the decision log; None to leave none."""
    budgets: Mapping[str, int]
    """Units out of each budget when the run began; one that could not be read is absent."""
    lease: float
    """Seconds for which a unit stays reserved for an answer that nobody has reported as shown."""

    def __call__(self) -> Callable[[Part], Tally]:
        return _Decider(self).write

    def begun(self, part: Part) -> Path:
        """The mark that a part was begun; it stays until its lines are in the log."""
        return self.folder / WORK / f"{part.name}.begun"

    def segment(self, part: Part) -> Path | None:
        """For this part alone, of one name however often it is begun."""
        return self.log and self.log / f"{round(self.at * 1000):013d}-batch.{self.run}-{part.number:06d}{SEALED}"

    def settle(self, part: Part) -> None:
        """Ends a part whose process was killed right after its results were there."""
        if segment := self.segment(part):
            settle(segment)
        self.begun(part).unlink()


class _Decider:
    """A release, ready to decide for one surface."""

    def __init__(self, task: Deciding) -> None:
        self._task, release = task, task.load()
        self._foreseeing = Foreseeing(release, task.surface)
        self._visits = Visits(release, task.schema, task.as_of, task.surface, task.at, task.run, task.secret)

    def write(self, part: Part) -> Tally:
        """Decides a part, tells the store and the log, writes its file, and tells what is in it."""
        task, tally = self._task, {}
        begun = task.begun(part)
        is_again = begun.exists()
        begun.touch()
        with part_log(task.segment(part)) as log, part_writer(task.folder / part.name, COLUMNS) as out:
            for answers in self._answers(part, is_again=is_again):
                rows = table(self._foreseeing.release, answers)
                out.write(rows)
                log.write(answers)
                tally = added(tally, counted(rows, answers))
            out.tally = tally
            log.sync()
        begun.unlink()
        return tally

    def _answers(self, part: Part, *, is_again: bool) -> Iterator[list[Answer]]:
        task, foreseeing = self._task, self._foreseeing
        with asyncio.Runner() as runner:
            store = task.store()
            desk = Desk(
                foreseeing.release,
                store,
                task.surface,
                foreseeing.turn,
                budgets=task.budgets,
                lease=task.lease,
                is_again=is_again,
            )
            try:
                for batch in batches(part, [USER, SENT, KNOWN, *task.schema.names], BATCH):
                    visits, users = self._visits.of(batch)
                    foreseeing.foresee(users)
                    yield runner.run(desk.answers(visits))
                    foreseeing.turn(None)
            except StoreDown as error:
                raise UserError(
                    f"The online store went away ({error}). What is decided is kept: run the same again to go on."
                ) from None
            finally:
                runner.run(store.close())
