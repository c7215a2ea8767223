"""The one folder in which a Segue keeps its work: where each thing is, and the secret that hashes user ids."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from decisioning.errors import UserError

SECRET_VARIABLE = "SEGUE_SECRET"
SECRET_BYTES = 32
NAMESPACE_VARIABLE = "SEGUE_NAMESPACE"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the work folder (`--home`, `.segue` by default). Creates nothing until something is written."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    @property
    def releases(self) -> Path:
        return self.path / "releases"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def switches(self) -> Path:
        return self.path / "kill-switches.jsonl"

    @property
    def keys(self) -> Path:
        return self.path / "keys.json"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def artifacts(self) -> Path:
        return self.path / "mlartifacts"

    @property
    def mlflow_uri(self) -> str:
        """The tracking server of the environment, or SQLite in this folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(self.path / 'mlflow.db').resolve()}"

    @property
    def namespace(self) -> str:
        """What all keys in the online store begin with, so that several installations can share a server."""
        return os.environ.get(NAMESPACE_VARIABLE) or "segue"

    def secret(self) -> bytes:
        """The key of `identity.user_key`: from the environment, else from `secret.key`, made at first use.

        Raises UserError for a key that is not 16 to 64 bytes in hexadecimal, or can't be read or made.
        """
        text, where = os.environ.get(SECRET_VARIABLE), f"the environment variable {SECRET_VARIABLE}"
        if not text:
            file = self.path / "secret.key"
            try:
                text, where = _read_or_make(file), str(file)
            except OSError as error:
                raise UserError(
                    f"The key {file} can't be read or made ({error.strerror}): choose another --home, or let this user "
                    f"write there, or set {SECRET_VARIABLE}."
                ) from None
        try:
            secret = bytes.fromhex(text.strip())
        except ValueError:
            secret = b""
        if not 16 <= len(secret) <= 64:
            raise UserError(f"{where} is no key: it must hold 16 to 64 bytes in hexadecimal (32 to 128 digits).")
        return secret


def _read_or_make(file: Path) -> str:
    """The key in the file; a new one where there is none. Two processes that start together agree on one key."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"secret.{os.getpid()}.tmp")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(SECRET_BYTES) + "\n")
        with suppress(FileExistsError):  # another process was first: its key is as good
            os.link(draft, file)
        draft.unlink()
    return file.read_text(errors="replace")
