"""A person at a terminal, a client surface, and a small history of their own."""

import io
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from redis import Redis

import segue
from demo_check import Client

MISTAKE = 2
"""The exit code of what is refused."""


@dataclass(frozen=True)
class Terminal:
    """Runs `segue` verbs in one work folder: as real processes, but for what is refused."""

    home: Path
    namespace: str

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SEGUE_HOME": str(self.home), "SEGUE_NAMESPACE": self.namespace}

    def segue(self, *words: object, expect: int = 0) -> str:
        """Standard output of a verb; with another exit code than 0 expected, standard error."""
        if expect == MISTAKE:
            return self._mistake(*words)
        command = [sys.executable, "-m", "segue", *map(str, words)]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=280)
        assert done.returncode == expect, done.stderr
        return done.stdout if expect == 0 else done.stderr

    def _mistake(self, *words: object) -> str:
        """A mistake is told by this process: in one of its own nearly all the time would go into imports."""
        told, given = io.StringIO(), ["segue", *map(str, words)]
        with (
            patch.dict(os.environ, self.environment()),
            patch.object(sys, "argv", given),
            redirect_stdout(io.StringIO()),
            redirect_stderr(told),
            pytest.raises(SystemExit) as ended,
        ):
            segue.main()
        assert ended.value.code == MISTAKE, told.getvalue()
        return told.getvalue()

    def json(self, *words: object) -> dict:
        return json.loads(self.segue(*words, "--json"))

    @contextmanager
    def serving(self, *words: object) -> Iterator["Server"]:
        command = [sys.executable, "-m", "segue", "serve", "--port", "0", *map(str, words)]
        process = subprocess.Popen(command, env=self.environment(), stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                found = re.search(r'"url": "(http://[^"]+)"', line)
                if found:
                    break
            else:
                pytest.fail("the server ended before it was ready")
            yield Server(process, Client(found[1]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen
    client: Client


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    namespace = f"test-{secrets.token_hex(6)}"
    yield Terminal(tmp_path_factory.mktemp("home"), namespace)
    if "REDIS_URL" in os.environ:
        client = Redis.from_url(os.environ["REDIS_URL"])
        for key in client.scan_iter(f"{namespace}:*", count=1000):
            client.delete(key)
        client.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CSV files of a bookshop that showed one of two passes at random: readers of crime prefer the crime pass."""
    folder, chance = tmp_path_factory.mktemp("history"), random.Random(7)
    facts, decisions, outcomes = [], [], []
    for n in range(8000):
        likes_crime, age = chance.random() < 0.5, chance.randint(16, 80)
        offer = chance.choice(["crime_pass", "poetry_pass"])
        buys = chance.random() < (0.20 if likes_crime == (offer == "crime_pass") else 0.05)
        facts.append(f"d{n},{str(likes_crime).lower()},{age if n % 10 else ''},{chance.choice(['SE', 'NO'])}")
        decisions.append(f"d{n},reader-{n},2026-06-01T10:00:00Z,front_page,{offer},0.5")
        if buys:
            outcomes.append(f"o{n},d{n},convert,,2026-06-02T10:00:00Z")
    for name, header, rows in (
        ("facts", "decision_id,likes_crime,age,country", facts),
        ("decisions", "decision_id,user_id,at,surface,offer,probability", decisions),
        ("outcomes", "event_id,decision_id,type,value,at", outcomes),
    ):
        (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


@pytest.fixture
def here(monkeypatch, capsys):
    """Runs a verb in this process: its exit code, and what it said on both streams. The caller sets SEGUE_HOME."""

    def verb(*words):
        monkeypatch.setattr(sys, "argv", ["segue", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            segue.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return verb
