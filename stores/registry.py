"""The model registry: MLflow as a control plane, and nothing more. Serving never imports this.

Versions are plain files under a run's artifacts. No flavour, no pyfunc: loading a model through MLflow can run code
from the artifact; `models.artifact.load` reads bytes.
"""

import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

# These are read when mlflow is imported: no telemetry, no git calls in somebody's work folder, no bars but ours.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # where tqdm happens to be installed
# Read at each call: a server that is down is told within seconds, where MLflow itself would try for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunInfo, RunTag
from mlflow.exceptions import MlflowException

from decisioning.errors import UserError
from models import artifact

EXPERIMENT = "segue"
FOLDER = "model"
CHAMPION, CHALLENGER = "champion", "challenger"
MOST_PARAM_CHARACTERS = 500
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a model, or an alias, that isn't there. All else is trouble, such as a server out of reach."""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version."""

    name: str
    version: int
    run: str
    tags: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


class Registry:
    """Registered models behind an MLflow tracking address (`sqlite:///…` or a server)."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        """`artifacts` is where files go when the address is a local database; a server decides for itself."""
        self._uri, self._artifacts = uri, artifacts
        self._database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None

    @property
    def _is_empty(self) -> bool:
        """Whether nothing was ever registered: looking must not create a database."""
        return self._database is not None and not self._database.exists()

    @cached_property
    def _client(self) -> MlflowClient:
        if self._database is not None and self._is_empty:
            make_database(self._database)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def register(
        self,
        name: str,
        files: Mapping[str, bytes],
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> Version:
        """Record a run with its files, and make it the newest version of the model `name`."""
        with self._speaking():
            run = self._run(name, FOLDER, files, metrics, params, tags)
            self._ensure_model(name)
            source = f"{run.artifact_uri.rstrip('/')}/{FOLDER}"
            found = self._client.create_model_version(name, source, run.run_id, tags=dict(tags))
        return _version(found)

    def note(
        self, name: str, files: Mapping[str, bytes], metrics: Mapping[str, float], params: Mapping[str, Any]
    ) -> None:
        """Record a run of that name with its files, of which no version comes."""
        with self._speaking():
            self._run(name, None, files, metrics, params, {})

    def attach(
        self, name: str, version: int, folder: str, files: Mapping[str, bytes], metrics: Mapping[str, float]
    ) -> None:
        """Put files into a folder of a version's run, over those of the same names, and metrics on it, the latest."""
        run, now = self.version(name, version).run, int(time.time() * 1000)
        with self._speaking(), tempfile.TemporaryDirectory() as draft:
            for file, content in files.items():
                Path(draft, file).write_bytes(content)
            self._client.log_artifacts(run, draft, folder)
            self._client.log_batch(run, metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()])

    def files(self, name: str, version: int) -> dict[str, bytes]:
        """The files of a version, its number stamped into them. Raises UserError for one that doesn't exist."""
        found = self.version(name, version)
        with self._speaking(), tempfile.TemporaryDirectory() as folder:
            try:
                root = Path(self._client.download_artifacts(found.run, FOLDER, folder))
            except (MlflowException, OSError) as error:
                raise UserError(f"The files of {found.label} can't be read from MLflow: {error}") from None
            files = {file.name: file.read_bytes() for file in sorted(root.iterdir()) if file.is_file()}
        return artifact.stamp(files, version)

    def version(self, name: str, version: int) -> Version:
        """Raises UserError for a version that doesn't exist, naming those that do."""
        for found in self.versions(name):
            if found.version == version:
                return found
        known = ", ".join(str(found.version) for found in self.versions(name)) or "none"
        raise UserError(f"Model {name} has no version {version} in the registry (it has: {known}). Run `segue train`.")

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first; empty for a model that was never registered."""
        if self._is_empty:
            return ()
        with self._speaking():
            found = [_version(one) for one in self._client.search_model_versions(f"name = '{name}'")]
        return tuple(sorted(found, key=lambda one: one.version))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        with self._speaking():
            self._client.set_registered_model_alias(name, alias, str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        with self._speaking():
            self._client.delete_registered_model_alias(name, alias)

    def alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to; None where there is none."""
        if self._is_empty:
            return None
        with self._speaking():
            try:
                return _version(self._client.get_model_version_by_alias(name, alias))
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise

    def tag(self, name: str, version: int, key: str, value: str) -> None:
        with self._speaking():
            self._client.set_model_version_tag(name, str(version), key, value)

    def record(self, name: str, version: int, key: str, record: Mapping[str, Any]) -> None:
        """Store a record on a version: as its tag `key` (the latest counts), and in its run, where all are kept."""
        text = json.dumps(record, indent=1)
        run = self.version(name, version).run
        with self._speaking():
            self._client.log_text(run, text + "\n", f"{key}/{int(time.time() * 1000)}.json")
        self.tag(name, version, key, text)

    def _run(
        self,
        name: str,
        folder: str | None,
        files: Mapping[str, bytes],
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> RunInfo:
        """A run that has ended, with its files in a folder of its artifacts."""
        run, now = self._client.create_run(self._experiment(), run_name=name).info, int(time.time() * 1000)
        self._client.log_batch(
            run.run_id,
            metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)[:MOST_PARAM_CHARACTERS]) for key, value in params.items()],
            tags=[RunTag(key, str(value)) for key, value in tags.items()],
        )
        with tempfile.TemporaryDirectory() as draft:
            for file, content in files.items():
                Path(draft, file).write_bytes(content)
            self._client.log_artifacts(run.run_id, draft, folder)
        self._client.set_terminated(run.run_id)
        return run

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return found.experiment_id
        local = self._uri.startswith("sqlite:")
        return self._client.create_experiment(EXPERIMENT, self._artifacts.resolve().as_uri() if local else None)

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            self._client.create_registered_model(name)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """MLflow without its chatter; its errors that a person can mend, as UserError."""
        quiet = [logging.getLogger(name) for name in ("mlflow", "alembic")]
        levels = [logger.level for logger in quiet]
        for logger in quiet:
            logger.setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except MlflowException as error:
            if "Max retries exceeded" in error.message or "timed out" in error.message:
                where = "start it, or set MLFLOW_TRACKING_URI to one that runs"
                raise UserError(f"MLflow at {self._uri} can't be reached: {where}.") from None
            raise UserError(f"MLflow at {self._uri} refuses: {error.message.partition(chr(10))[0]}") from None
        finally:
            for logger, level in zip(quiet, levels, strict=True):
                logger.setLevel(level)


def make_database(file: Path) -> None:
    """MLflow makes its tables one by one, and can't go on where it was interrupted: so beside, then in place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{draft}", registry_uri=f"sqlite:///{draft}").search_experiments()
        if not file.exists():
            draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


def _version(found: Any) -> Version:
    return Version(found.name, int(found.version), found.run_id, dict(found.tags or {}))
