"""The page and the pictures of a version, in the work folder and in its run."""

import json
import math

import pytest

from decisioning.errors import UserError
from stores.registry import Registry
from training.evaluate import evaluate
from training.reporting import FOLDER, publish_report, run_metrics


@pytest.fixture(scope="module")
def evaluated(trained_home, catalog):
    return evaluate(trained_home, catalog, version=1)


def artifacts(home, version):
    registry = Registry(home.mlflow_uri, home.artifacts)
    run = registry.version("passes", version).run
    return registry, run


def test_evaluating_writes_a_page_and_attaches_it_to_the_run(evaluated, trained_home, tmp_path):
    page = (trained_home.path / "report.html").read_text()
    assert evaluated.report == trained_home.path / "report.html"
    assert "passes, version 1" in page
    registry, run = artifacts(trained_home, 1)
    from mlflow import MlflowClient

    folder = MlflowClient(tracking_uri=trained_home.mlflow_uri).download_artifacts(run, FOLDER, str(tmp_path))
    found = {file.name for file in (tmp_path / FOLDER).iterdir()}
    assert folder
    assert {"report.html", "policy_values.svg", "reliability.svg"} <= found
    assert (tmp_path / FOLDER / "report.html").read_text() == page
    logged = MlflowClient(tracking_uri=trained_home.mlflow_uri).get_run(run).data.metrics
    assert logged["convert.trained.diff_low"] > 0
    assert logged["controls.failed"] == 0
    assert registry.version("passes", 1).run == run


def test_the_files_of_the_model_stay_as_they_were(evaluated, trained_home):
    registry, _ = artifacts(trained_home, 1)
    assert not {"report.html", "policy_values.svg"} & set(registry.files("passes", 1))


def test_the_page_goes_where_it_is_asked_to(evaluated, trained_home, tmp_path):
    path = publish_report(trained_home, evaluated.metrics, tmp_path / "mine.html")
    assert path.read_text().startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.html"]
    with pytest.raises(UserError, match=r"can't be written to .*No such file or directory"):
        publish_report(trained_home, evaluated.metrics, tmp_path / "no" / "such" / "folder.html")


def test_metrics_json_makes_the_same_page_again(evaluated, trained_home):
    stored = json.loads((trained_home.path / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(evaluated.metrics))


def test_every_metric_of_a_run_is_a_finite_number(evaluated):
    found = run_metrics(evaluated.metrics)
    assert all(math.isfinite(value) for value in found.values())
    assert {"ece", "auc", "convert.trained.value", "segments.worse"} <= set(found)
