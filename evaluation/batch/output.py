"""The folder that a batch writes to: a plan first, parts as they are done, and a manifest when all of it is there.

<out>/_plan.json           what was asked: written before anything else, and what a run that was interrupted goes on by
<out>/part-00000.parquet   the results of one part, whole or not there at all; its metadata hold its share of the tally
<out>/_manifest.json       written last: a folder without it is no result
<out>/.work/               what the run itself needs; gone when it is done
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import UserError
from evaluation.batch.parts import Part
from evaluation.batch.whole_files import TALLY, Tally, to_text, write_json

PLAN, MANIFEST, WORK, LOCK = "_plan.json", "_manifest.json", ".work", ".lock"
DRAFTS = (".part-*", f".{PLAN}.*", f".{MANIFEST}.*")
"""What processes that were killed left half-written."""
OURS = ("part-*.parquet", PLAN, MANIFEST, WORK, LOCK, *DRAFTS)


def added(one: Tally, other: Tally) -> dict[str, Any]:
    """Both tallies in one."""
    found = dict(one)
    for key, value in other.items():
        if key in found:
            found[key] = added(found[key], value) if isinstance(value, Mapping) else found[key] + value
        else:
            found[key] = value
    return found


@dataclass(frozen=True, slots=True)
class Output:
    """A folder with a plan. `at` is the moment of the run, which it keeps when it goes on."""

    folder: Path
    plan: Mapping[str, Any]

    @property
    def at(self) -> float:
        return self.plan["at"]

    @property
    def run(self) -> str:
        """16 hexadecimal digits that follow from all that was asked: the same question, the same run."""
        return sha256(to_text(self.plan)).hexdigest()[:16]

    @property
    def work(self) -> Path:
        return self.folder / WORK

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The result, where it is complete."""
        return _read(self.folder / MANIFEST)

    def done(self, part: Part) -> Tally | None:
        """The tally of a part that is there already; None for one that is not, or was damaged since."""
        try:
            return json.loads(pq.read_metadata(self.folder / part.name).metadata[TALLY])
        except (FileNotFoundError, KeyError, pa.ArrowException):
            return None

    def finish(self, parts: Sequence[Part], tally: Tally) -> dict[str, Any]:
        """Writes the manifest: from here on, the folder is a result."""
        manifest = {**self.plan, "run": self.run, "parts": [part.name for part in parts], "tally": tally}
        write_json(self.folder / MANIFEST, manifest)
        _tidy(self.folder)
        return manifest


@contextmanager
def opened(folder: Path, asked: Mapping[str, Any], at: float | None, now: float, *, replace: bool) -> Iterator[Output]:
    """The folder with a plan for what is asked: a new one, or the one that it has already.

    A run that was interrupted goes on as of the moment at which it began, where no other moment is asked for. A plan of
    which nothing was begun makes way. Raises UserError where the folder holds something else, or a result that was not
    said to be replaced, and while another process is at it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{folder} is a file: name a folder with --out.") from None
    with _locked(folder):
        _refuse_strangers(folder)
        before = _read(folder / PLAN)
        wanted = {**asked, "at": at if at is not None else (before or {}).get("at", now)}
        if before is not None and before != wanted and not replace and _has_begun(folder):
            raise UserError(f"{folder} holds {_difference(before, wanted)}. Choose another --out, or say --replace.")
        if before != wanted:
            _clear(folder)
            write_json(folder / PLAN, wanted)
        if (folder / MANIFEST).exists():
            _tidy(folder)  # it may have been killed right after it was done
        yield Output(folder, wanted)


def work_through(
    output: Output,
    parts: Sequence[Part],
    tallies: Callable[[Sequence[Part]], Iterator[Tally]],
    progress: Callable[[int, int], object],
) -> Tally:
    """The tally of all parts: of those that are there as they are, of the others as `tallies` does them, in order."""
    found = {part.number: tally for part in parts if (tally := output.done(part)) is not None}
    left = [part for part in parts if part.number not in found]
    users, total = sum(part.rows for part in parts if part.number in found), sum(part.rows for part in parts)
    progress(users, total)
    for part, tally in zip(left, tallies(left), strict=True):
        found[part.number] = tally
        users += part.rows
        progress(users, total)
    whole: Tally = {}
    for _, tally in sorted(found.items()):
        whole = added(whole, tally)
    return whole


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another process is writing to {folder}: wait for it, or choose another --out.") from None
        yield


def _refuse_strangers(folder: Path) -> None:
    """What is not ours is never touched, whatever is said."""
    strangers = [path.name for path in sorted(folder.iterdir()) if not any(path.match(ours) for ours in OURS)]
    if strangers or (any(folder.glob("part-*.parquet")) and not (folder / PLAN).is_file()):
        held = strangers[0] if strangers else "files of another program"
        raise UserError(f"{folder} is not empty (it holds {held}): choose a new folder with --out.")


def _has_begun(folder: Path) -> bool:
    """Whether there is any result, or somebody was decided about without there being one yet."""
    return any(any(folder.glob(ours)) for ours in (MANIFEST, "part-*.parquet", f"{WORK}/*.begun"))


def _clear(folder: Path) -> None:
    """The manifest goes first: what is left of an old result is none."""
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / PLAN).unlink(missing_ok=True)
    for path in folder.glob("part-*.parquet"):
        path.unlink()
    _tidy(folder)


def _tidy(folder: Path) -> None:
    """Removes what a run needs for itself, and drafts."""
    for pattern in DRAFTS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _difference(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in (*before, *wanted) if before.get(name) != wanted.get(name)]
    name = names[0]
    if name == "users":  # no more is kept of them than a hash
        return "the result for other users: for another file, or for this one before it was changed"
    return f"the result of another {name}: {before.get(name)}, and not {wanted.get(name)}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(f"{path} is damaged: remove the folder, or choose another --out.") from None
