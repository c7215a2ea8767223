"""The guided tour: history, features, training, a release, a server, and three decisions with their reasons."""

import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from decisioning.explain import explain
from demo_check import Client, exercise, reference_problems
from stores.home import Home
from stores.log.decision_log import DecisionRecord
from stores.publishing.home import publish_features
from terminal import Steps, decision_words, outcomes_of, policy_table
from workbench import (
    catalog_folder,
    current_release,
    free_port,
    load_catalog_of,
    online_store,
    replay_log,
    visitors_key,
)

VISITORS = 3
MOST_REASONS = 8


@dataclass
class Demo:
    """One run of the tour. With `check`, it verifies every answer over HTTP and stops; else it serves until Ctrl-C."""

    home: Home
    console: Console
    file: Path | None
    """The Hillstrom CSV; None to simulate."""
    users: int
    seed: int
    port: int | None
    redis_url: str | None
    check: bool
    problems: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Returns the seconds of each step, the policy values, and `ok` with whatever was off in `problems`."""
        steps = Steps(self.console)
        with ExitStack() as stack:
            self._history(steps)
            catalog = load_catalog_of(self.home, None)
            self._features(steps, catalog)
            trained = self._train(steps, catalog)
            self._promote(steps, catalog)
            with steps.step("valkey", "Start the online store"):
                url = stack.enter_context(online_store(self.home, self.redis_url))
            with steps.step("publish", "Publish the features") as progress:
                publish_features(self.home, url, progress)
            for outcome in outcomes_of(trained):
                self.console.print(policy_table(trained["policy_values"], outcome))
            self.console.print(trained["says"], soft_wrap=True, highlight=False)
            self._serve(steps, catalog, url)
        if self.file is not None:
            self.problems += reference_problems(trained["policy_values"])
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "seconds": steps.seconds,
            "policy_values": trained["policy_values"],
            "home": str(self.home.path),
        }

    def _history(self, steps: Steps) -> None:
        if self.file is not None:
            from training.importers.hillstrom import import_hillstrom

            with steps.step("import", f"Import the Hillstrom trial from {self.file}"):
                import_hillstrom(self.home, self.file)
            return
        from evaluation.simulator.tables import simulate

        with steps.step("simulate", f"Simulate a month of {self.users:,} listeners") as progress:
            simulate(self.home, catalog_folder(self.home, None), users=self.users, seed=self.seed, progress=progress)

    def _features(self, steps: Steps, catalog: Catalog) -> None:
        from features.schema import Schema
        from features.snapshots import build_snapshot

        with steps.step("features", "Build the feature snapshot"):
            build_snapshot(self.home.data, self.home.snapshots, schema=Schema.of(catalog.features))

    def _train(self, steps: Steps, catalog: Catalog) -> dict[str, Any]:
        from training.train import train

        # Listeners see many offers and take few of each: what is learned of one has to serve those that are like it.
        config = None if self.file else "pooled"
        with steps.step("train", "Train, cross-fit, register in MLflow") as progress:
            return train(self.home, catalog, config=config, seed=self.seed, progress=progress).to_json()

    def _promote(self, steps: Steps, catalog: Catalog) -> None:
        """What the gate refuses is told, and the tour goes on with what is in use, or else the best single offer."""
        from training.train import train

        try:
            self._through_the_gate(steps)
        except UserError as refused:
            self.console.print(escape(str(refused)), highlight=False, soft_wrap=True)
            if (self.home.releases / "current").is_file():
                return
            with steps.step("train", "Train the best single offer instead") as progress:
                train(self.home, catalog, config="constant", seed=self.seed, progress=progress)
            self._through_the_gate(steps)

    def _through_the_gate(self, steps: Steps) -> None:
        from stores.catalog_files import read_catalog_files
        from training.promote import promote

        files = read_catalog_files(catalog_folder(self.home, None))
        asked = {"who": "segue demo", "why": "the guided tour", "now": time.time()}
        with steps.step("promote", "Promote the model into a release") as progress:
            promote(self.home, files, None, None, **asked, progress=progress)

    def _serve(self, steps: Steps, catalog: Catalog, url: str) -> None:
        """Serves in this thread, as the signals of a person arrive here, while another one pays the visits."""
        from serving.main import run
        from serving.settings import Settings

        started = time.perf_counter()

        def visit(client: Client) -> None:
            steps.seconds["serve"] = round(time.perf_counter() - started, 2)
            threading.Thread(target=self._visit, args=(steps, catalog, client), daemon=True).start()

        settings = Settings(self.home, port=free_port(self.port), redis_url=url, drain=0.0, quiet=True)
        with visitors_key(self.home, "segue demo", time.time()) as key:
            run(settings, on_ready=lambda address: visit(Client(address, key)))
        self.console.print("Stopped.")

    def _visit(self, steps: Steps, catalog: Catalog, client: Client) -> None:
        """Asks as clients would. Whatever goes wrong here is a problem of the tour, and never leaves it hanging."""
        try:
            self._tell(catalog, client)
            if self.check:
                with steps.step("check", "Check decisions, events and replay over HTTP"):
                    self.problems += exercise(client, catalog, self._some_users(50))
                    report = replay_log(self.home, "1000")
                    if not report["ok"]:
                        self.problems.append(f"replay: {report}")
        except Exception as error:  # noqa: BLE001  whatever goes wrong here is a finding
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            for problem in self.problems:
                self.console.print(f"[red]✗[/red] {escape(problem)}")
            if self.check or self.problems:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                self._farewell(client.address)

    def _tell(self, catalog: Catalog, client: Client) -> None:
        """Three decisions, told from their log records as a person would want to read them."""
        release = current_release(self.home)
        surfaces = sorted(catalog.surfaces, key=lambda name: -len(catalog.offers_on(name)))
        for number, user in enumerate(self._some_users(VISITORS)):
            surface = surfaces[number % min(len(surfaces), VISITORS)]
            answer = client.decide(user, surface)
            self.console.print(f"\n[bold]{user}[/bold] on [bold]{surface}[/bold]", highlight=False)
            record = self._recorded(answer["decision_id"])
            explanation = explain(release, record.request, record.facts, record.decision)
            for line in decision_words(release.catalog, record.decision, explanation, most=MOST_REASONS):
                self.console.print(line, highlight=False, soft_wrap=True)
        self.console.print()

    def _recorded(self, decision_id: str) -> DecisionRecord:
        from stores.log.decision_log import decided_at, decode
        from stores.log.reader import tail

        records = map(decode, tail(self.home.logs / "decisions", 100, decided_at))
        return next(record for record in records if record.decision.decision_id == decision_id)

    def _some_users(self, count: int) -> list[str]:
        """Users of the snapshot, evenly spread over it."""
        from features.snapshots import current

        users = current(self.home.snapshots).frame()["user_id"]
        return [str(users.iloc[len(users) * (2 * n + 1) // (2 * count)]) for n in range(count)]

    def _farewell(self, address: str) -> None:
        home = "" if self.home.path == Path(".segue") else f" --home {self.home.path}"
        release = current_release(self.home)
        self.console.print(
            f"Serving release {release.id}. Open:\n"
            f"  {address}/docs      the API, to try\n"
            f"  {address}/version   what is running\n"
            f"  .venv/bin/mlflow ui --backend-store-uri {self.home.mlflow_uri}   the runs and the registry\n"
            "Or, in another terminal:\n"
            f"  .venv/bin/segue decide {self._some_users(1)[0]} {min(release.catalog.surfaces)}{home} --explain\n"
            "Ctrl-C stops everything.",
            highlight=False,
            soft_wrap=True,
        )
