"""Releases in a folder: immutable bundles named by the hash of their manifest, and the pointer to the one in use.

<id>/manifest.json   the salt, and the sha256 of every other file
<id>/…               catalog/*.yaml, schema.json, models/<name>/…, evidence.json; where a version is tried beside the
                     champion, challengers/<name>/… and challenge.json with its share of the decisions
current              the id of the release in use
history.jsonl        who moved the pointer, when and why; only ever appended to
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import msgspec

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Scorer
from decisioning.engine import Release
from decisioning.errors import UserError
from features.schema import Schema
from models import artifact

MANIFEST = "manifest.json"
PUBLISHED = "published.json"
SCHEMA = "schema.json"
CHALLENGE = "challenge.json"
ID_DIGITS = 16
ID = re.compile(f"[0-9a-f]{{{ID_DIGITS}}}")
DEFAULT_SALT = "segue"


@dataclass(frozen=True, slots=True)
class Move:
    """One line of the history."""

    action: str
    """`activate` or `rollback`."""
    release: str
    before: str | None
    who: str
    why: str
    at: float


class ReleaseStore:
    def __init__(self, folder: Path):
        self._folder = folder

    def publish(self, files: Mapping[str, bytes], *, who: str, why: str, now: float, salt: str = DEFAULT_SALT) -> str:
        """Write a release and return its id; the same content again is the same release, and writes nothing.

        It is not in use before `activate`. Raises UserError for file names that would leave the release's folder.
        """
        manifest = _manifest(files, salt)
        release = _id(manifest)
        with self._locked():
            if (self._folder / release).exists():
                self.files(release)
            else:
                self._write_all(
                    release, {**files, MANIFEST: manifest, PUBLISHED: _line({"who": who, "why": why, "at": now})}
                )
        return release

    def activate(self, release: str, *, expected: str | None, who: str, why: str, now: float) -> None:
        """Point to a release, if `expected` is still the one pointed to (None: none yet).

        Raises UserError when it is not, or when the release is missing or damaged; nothing has moved then.
        """
        self.files(release)
        with self._locked():
            self._move("activate", release, expected, who, why, now)

    def rollback(self, who: str, why: str, now: float) -> str:
        """Point to the release that was in use before the current one came, and return its id.

        Rolling back twice goes back twice. Raises UserError when there is no earlier release.
        """
        with self._locked():
            before = self.earlier()
            if not before:
                raise UserError(f"There is no earlier release in {self._folder} to roll back to.")
            self.files(before[0])
            self._move("rollback", before[0], self.current(), who, why, now)
        return before[0]

    def current(self) -> str | None:
        pointer = self._folder / "current"
        return pointer.read_text().strip() or None if pointer.exists() else None

    def history(self) -> tuple[Move, ...]:
        """Oldest first."""
        file = self._folder / "history.jsonl"
        if not file.exists():
            return ()
        return tuple(msgspec.json.decode(line, type=Move) for line in file.read_bytes().splitlines())

    def earlier(self) -> list[str]:
        """The releases that were in use before the current one, the latest first."""
        current = self.current()
        return list(dict.fromkeys(release for release in reversed(self._stack()) if release != current))

    def files(self, release: str) -> dict[str, bytes]:
        """Every file of a release but its manifest, by name, each checked. Raises UserError naming a damaged one."""
        root = self._folder / release
        if not ID.fullmatch(release):
            raise UserError(f"{release!r} is no release: ids are {ID_DIGITS} hexadecimal digits.")
        manifest = _checked(root / MANIFEST, release)
        names = json.loads(manifest)["files"]
        return {name: _checked(root / name, digest) for name, digest in names.items()}

    def schema(self, release: str) -> Schema:
        """The feature schema that the online store's vectors must have. Raises UserError when it has none."""
        files = self.files(release)
        if SCHEMA not in files:
            raise UserError(f"Release {release} has no {SCHEMA}: publish it again with `segue promote`.")
        return Schema.from_json(json.loads(files[SCHEMA]))

    def load(self, release: str) -> Release:
        """Raises UserError for a release that is missing, damaged, or doesn't load."""
        files = self.files(release)
        manifest = json.loads((self._folder / release / MANIFEST).read_bytes())
        catalog = load_catalog(_below(files, "catalog"))
        if CHALLENGE in files:
            share = float(json.loads(files[CHALLENGE])["share"])
            catalog = replace(catalog, exploration=replace(catalog.exploration, challenger=share))
        groups = {name: offer.group for name, offer in catalog.offers.items()}
        return Release(
            id=release,
            catalog=catalog,
            scorers=_scorers(files, "models", groups),
            challengers=_scorers(files, "challengers", groups),
            salt=manifest["salt"],
        )

    def _write_all(self, release: str, files: Mapping[str, bytes]) -> None:
        """All or nothing: a folder beside it is filled, made durable, and renamed."""
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        try:
            for name, content in files.items():
                _write(draft / name, content)
            draft.chmod(0o755)
            draft.rename(self._folder / release)
        except OSError as error:
            raise UserError(f"The release can't be written to {self._folder}: {error}.") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _move(self, action: str, release: str, expected: str | None, who: str, why: str, now: float) -> None:
        current = self.current()
        if current != expected:
            raise UserError(
                f"The release in use is {current or 'none'}, not {expected or 'none'}: somebody else changed it. "
                "Look at what is there now, then try again."
            )
        if release == current:
            return
        draft = self._folder / f".current-{os.getpid()}"
        _write(draft, f"{release}\n".encode())
        draft.replace(self._folder / "current")
        with (self._folder / "history.jsonl").open("ab") as history:
            history.write(msgspec.json.encode(Move(action, release, current, who, why, now)) + b"\n")

    def _stack(self) -> list[str]:
        """The releases that activations piled up and rollbacks took off again; the last is the one in use."""
        stack: list[str] = []
        for move in self.history():
            if move.action == "rollback":
                while stack and stack[-1] != move.release:
                    stack.pop()
            else:
                stack.append(move.release)
        return stack

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _manifest(files: Mapping[str, bytes], salt: str) -> bytes:
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name in ("", MANIFEST, PUBLISHED):
            raise UserError(f"A release can't hold a file named {name!r}.")
    return _line({"files": {name: sha256(files[name]).hexdigest() for name in sorted(files)}, "salt": salt})


def _line(record: object) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"


def _id(manifest: bytes) -> str:
    return sha256(manifest).hexdigest()[:ID_DIGITS]


def _checked(file: Path, digest: str) -> bytes:
    """The file's bytes, if their sha256 begins with `digest`."""
    again = "The release can't be used: publish it again, or roll back."
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} can't be read ({error.strerror}). {again}") from None
    if not sha256(content).hexdigest().startswith(digest):
        raise UserError(f"{file} is damaged: its content is not what was published. {again}")
    return content


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{folder}/"): files[name] for name in files if name.startswith(f"{folder}/")}


def _scorers(files: Mapping[str, bytes], folder: str, groups: Mapping[str, str]) -> dict[str, Scorer]:
    """By name. The catalog's `groups` give a score to offers that came after the training."""
    found = _below(files, folder)
    names = sorted({name.split("/")[0] for name in found})
    return {name: artifact.load(_below(found, name), groups) for name in names}
