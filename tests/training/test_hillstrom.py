"""Real people, in a trial that nobody has found a gain in: what must not be promoted, and what may."""

import os
from pathlib import Path

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.values.pooling import pooled_differences
from stores.catalog_files import read_catalog_files
from stores.home import Home
from training.config import read_config
from training.importers.hillstrom import import_hillstrom
from training.prepare import cross_fit, gather
from training.promote import promote
from training.train import train

TRIAL = Path(os.environ.get("SEGUE_HILLSTROM", Path(__file__).parents[3] / "shared" / "data" / "hillstrom.csv"))
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not TRIAL.is_file(), reason="the Hillstrom trial is not here: set SEGUE_HILLSTROM to its CSV"),
]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("hillstrom") / "home")
    import_hillstrom(home, TRIAL)
    return home


def visits(home, config, seeds):
    catalog = load_catalog(read_catalog_files(home.catalog))
    chosen = read_config(config)
    _, logged, encoding = gather(home, catalog, catalog.models[0], chosen, 5)
    fits = (cross_fit(logged, encoding, chosen, folds=5, seed=seed) for seed in seeds)
    return {name: found.difference for name, found in pooled_differences(fits).items()}


@pytest.mark.timeout(600)
def test_lightgbm_as_it_comes_is_significantly_worse_and_the_gate_refuses_it(trial):
    files = read_catalog_files(trial.catalog)
    found = train(trial, load_catalog(files), config="lightgbm_plain").metrics
    assert found["shrinkage"] == 1.0
    trained = next(
        row
        for row in found["policy_values"]
        if (row["policy"], row["outcome"], row["estimator"]) == ("trained", "visit", "dr")
    )
    assert trained["diff_high"] < 0
    with pytest.raises(UserError, match=r"FAIL +worth against the best single offer"):
        promote(trial, files, None, found["version"], who="a test", why="to see", now=0.0)


@pytest.mark.timeout(600)
def test_the_default_costs_nothing_on_either_outcome(trial):
    found = visits(trial, "lightgbm", range(2))
    assert found["visit"].interval()[0] >= -0.005
    assert found["spend"].interval()[1] >= 0
