"""The image, without an engine for images: the Dockerfile's own steps, run in a folder of their own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from decisioning.catalog_yaml import load_catalog
from models import artifact
from models.artifact import Means, Model
from models.encoding import Encoding
from models.learners import Sample, fit
from stores.releases import ReleaseStore

REPOSITORY = Path(__file__).parents[2]
CATALOG = b"""
features:
  device: {type: enum, values: [phone, tv], from: context}
surfaces:
  banner: {slots: 1, fallback: generic}
exploration: {uniform: 0.0}
offers:
  generic: {owner: growth, group: fallback, surfaces: [banner], score: {value: 1.0}}
  annual:
    owner: growth
    group: upgrade
    surfaces: [banner]
    score: {model: upsell, value: 40.0}
    eligible: {device: phone}
"""


def model() -> dict[str, bytes]:
    """The files of a small model of trees, fitted here: phones convert, other devices don't."""
    encoding = Encoding.of(load_catalog({"all.yaml": CATALOG}), ["banner"], ["annual"])
    contexts = np.array([encoding.context({"device": device}, "banner") for device in ("phone", "tv") * 200])
    outcome = np.array([1, 0] * 180 + [0, 1] * 20)
    sample = Sample(contexts.astype(np.float32), np.zeros(400, int), outcome, np.ones(400))
    trees = fit("lightgbm", encoding, sample, {"num_trees": 5, "min_data_in_leaf": 20}, 1)
    means = Means({}, {}, {}, 0.5)
    return artifact.save(Model("upsell", 1, "lightgbm", "convert", encoding, means, False, 1.0, trees))


class Step(NamedTuple):
    word: str
    rest: str


def steps() -> list[list[Step]]:
    """The Dockerfile's instructions, by stage."""
    text = re.sub(r"\\\n", " ", (REPOSITORY / "Dockerfile").read_text())
    stages: list[list[Step]] = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            step = Step(*line.split(None, 1))
            if step.word == "FROM":
                stages.append([])
            stages[-1].append(step)
    return stages


def rests(stage: list[Step], word: str) -> list[str]:
    return [step.rest for step in stage if step.word == word]


def environment(stage: list[Step]) -> dict[str, str]:
    return dict(word.split("=", 1) for rest in rests(stage, "ENV") for word in shlex.split(rest))


class Image(NamedTuple):
    python: Path
    app: Path


def copy(stage: list[Step], target: Path) -> None:
    """Its COPY steps, but for those from another stage."""
    for source, name in (rest.split() for rest in rests(stage, "COPY") if not rest.startswith("--from")):
        origin, here = REPOSITORY / source, target / name
        here.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, here, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(origin, here)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Builds it: absolute paths of the image stand below a temporary root, and `python` is this very Python's."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    root = tmp_path_factory.mktemp("image")
    *stages, final = steps()
    base = Path(sys.base_prefix, "bin", "python3")
    for stage in stages:
        here = root / (*rests(stage, "WORKDIR"), "/")[0].strip("/")
        copy(stage, here)
        for command in rests(stage, "RUN"):
            ours = re.sub(r"(?<![\w/])python ", f"{base} ", command).replace("/opt/", f"{root}/opt/")
            subprocess.run(ours, shell=True, check=True, cwd=here)
    app = root / rests(final, "WORKDIR")[0].strip("/")
    copy(final, app)
    shutil.copytree(root / "opt" / "native", app, dirs_exist_ok=True)
    return Image(root / "opt" / "segue" / "bin" / "python", app)


@pytest.fixture(scope="module")
def address(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image's own entry point, serving a release from a folder. It must end well, too."""
    home = tmp_path_factory.mktemp("home")
    releases = ReleaseStore(home / "releases")
    files = {"catalog/all.yaml": CATALOG} | {f"models/upsell/{name}": content for name, content in model().items()}
    release = releases.publish(files, who="test", why="test", now=0.0)
    releases.activate(release, expected=None, who="test", why="test", now=0.0)
    final = steps()[-1]
    _, *arguments = json.loads(rests(final, "ENTRYPOINT")[0])
    settings = environment(final) | {
        "PATH": os.defpath,
        "SEGUE_BUILD": "test",
        "SEGUE_HOME": str(home),
        "SEGUE_HOST": "127.0.0.1",
        "SEGUE_PORT": "0",
        "SEGUE_DRAIN": "0",
    }
    with subprocess.Popen(
        [image.python, *arguments], cwd=image.app, env=settings, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield next(line["url"] for line in map(json.loads, server.stderr) if line["event"] == "serving")
        finally:
            server.terminate()
            assert server.wait(10) == 0, "it ends well at SIGTERM"


def test_what_the_image_installs_is_enough_to_serve_a_release_with_a_model_of_trees(address):
    with httpx.Client(base_url=address) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/version").json()["build"] == "test"
        body = {"user_id": "ann", "surface": "banner", "context": {"device": "phone"}, "explain": True}
        answer = client.post("/v1/decisions", json=body)
        assert answer.status_code == 200
        assert (answer.json()["source"], answer.json()["model"]) == ("model", "upsell/1")
        (shown,) = answer.json()["offers"]
        assert shown["offer"] == "annual"
        assert shown["p_convert"] > 0.5
        assert client.get("/openapi.json").status_code == 200


def test_the_image_scores_by_c_as_an_install_would_and_holds_no_compiler(image):
    program = "from models.scorer import fastest; print(fastest().name)"
    done = subprocess.run([image.python, "-c", program], cwd=image.app, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "c"
    (command,) = (rest for stage in steps() for rest in rests(stage, "RUN") if " gcc " in rest)
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    for own in declared:
        assert {*own["extra-compile-args"]} <= {*re.split(r"[\s;]+", command)}
        assert list(image.app.glob(own["name"].replace(".", "/") + ".*.so"))
    packages = ("decisioning", "features", "models", "stores", "serving")
    sources = [str(file.relative_to(REPOSITORY)) for name in packages for file in (REPOSITORY / name).rglob("_*.c")]
    assert sorted(sources) == sorted(source for own in declared for source in own["sources"])
    assert not any("gcc" in rest for rest in rests(steps()[-1], "RUN"))


def test_the_image_holds_nothing_that_trains(image):
    done = subprocess.run(
        [image.python, "-c", "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = set(done.stdout.split())
    assert {"fastapi", "uvloop", "httptools", "hiredis"} <= installed
    assert installed.isdisjoint({"pandas", "scikit-learn", "mlflow", "duckdb", "lightgbm", "scipy", "pyarrow", "pip"})
    assert not (image.app / "training").exists()


def test_the_image_runs_as_nobody_special_and_tells_its_health():
    final = steps()[-1]
    (user,) = rests(final, "USER")
    assert user not in ("root", "0")
    assert any(f" {user}" in command and "useradd" in command for command in rests(final, "RUN"))
    words = [step.word for step in final]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("COPY", "RUN"))


def test_the_health_check_of_the_image_tells_a_living_server_from_a_dead_one(image, address):
    _, *command = json.loads(rests(steps()[-1], "HEALTHCHECK")[0].split("CMD", 1)[1])
    for port, is_healthy in [(httpx.URL(address).port, True), (1, False)]:
        done = subprocess.run([image.python, *command], env={"SEGUE_PORT": str(port)}, capture_output=True)
        assert (done.returncode == 0) is is_healthy


def test_everything_that_is_copied_is_let_through_by_dockerignore():
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {rest.split()[0] for stage in steps() for rest in rests(stage, "COPY") if not rest.startswith("--from")}
    assert {one for one in copied if not any(one.startswith(f"{folder}/") for folder in allowed)} == allowed
    assert all((REPOSITORY / one).exists() for one in copied)
