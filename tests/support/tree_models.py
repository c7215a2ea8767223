"""Small text models by LightGBM."""

import lightgbm
import numpy as np


def text_of(**params):
    """Three trees over three columns of small whole numbers; `categories` are the columns that are none."""
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 5, (500, 3)).astype(float)
    outcome = (matrix[:, 0] % 2 == 0).astype(float) if params.get("objective") != "multiclass" else matrix[:, 0] % 3
    settings = {"objective": "binary", "verbosity": -1, "min_data_in_leaf": 2, **params}
    categories = settings.pop("categories", "auto")
    data = lightgbm.Dataset(matrix, outcome, categorical_feature=categories, params={"verbosity": -1, **settings})
    return lightgbm.train(settings, data, 3).model_to_string()


def categorical_text():
    return text_of(categories=[0, 1], max_cat_to_onehot=1, min_data_per_group=1)
