"""LightGBM, fitted so that `models.scorer` can score it: the booster behind four of the learners."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import lightgbm
import numpy as np

from decisioning.catalog import FeatureType
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from models.crossing import Crossing
from models.encoding import Encoding
from models.fitting.sample import Params, Sample
from models.trees import TreeError, parse

DEFAULTS: Params = {
    # Measured on real trials: anything freer than this did worse than the best single offer.
    "num_trees": 80,
    "num_leaves": 7,
    "min_data_in_leaf": 200,
    "learning_rate": 0.1,
    "lambda_l2": 1.0,
    "num_threads": 2,
}
FIXED: Params = {"deterministic": True, "force_row_wise": True, "verbosity": -1, "feature_pre_filter": False}
BINNING = (
    "max_bin",
    "min_data_in_bin",
    "bin_construct_sample_cnt",
    "use_missing",
    "zero_as_missing",
    "data_random_seed",
)
"""What bins depend on."""
OURS = ("objective", "boosting", "num_class", "linear_tree", "monotone_constraints", "seed", "early_stopping_round")
"""What a config can't say: the scorer serves sums of plain trees in log-odds, and the rest is told otherwise. How many
trees there are is said or searched for: to stop early takes rows to stop by, the same ones on every rank."""
NETWORK = ("machines", "local_listen_port", "num_machines", "tree_learner", "pre_partition")
"""What `joined` says, and no config."""
LISTEN_MINUTES = 5
"""How long ranks wait for one another before they give up."""
NUMBERS = (FeatureType.INT, FeatureType.FLOAT, FeatureType.BOOL)


class OfferBlock(NamedTuple):
    """What a booster sees of the offer shown, beside the context."""

    columns: np.ndarray
    """(offers, columns) float32."""
    crossings: tuple[Crossing, ...]

    def key(self) -> tuple[bytes, ...]:
        """The same for blocks that are the same."""
        return (self.columns.tobytes(), *(array.tobytes() for crossing in self.crossings for array in crossing))


def boost(
    sample: Sample,
    block: OfferBlock | None,
    params: Params,
    seed: int,
    *,
    outcome: np.ndarray | None = None,
    constraints: Sequence[int] = (),
    objective: str = "binary",
) -> str:
    """LightGBM's native text model over the contexts, and beside them the `block` of what was shown.

    Of the sample's outcome with its weights, or of another `outcome` (n,) without. Raises UserError for parameters that
    LightGBM refuses, that are not a config's to say, or whose model can't be served.
    """
    taken = sorted(set(params) & set(OURS))
    if taken:
        raise UserError(f"A training config can't set LightGBM's {taken[0]}: take it out of [params].")
    settings = {**{key: value for key, value in params.items() if key != "num_trees"}, **FIXED}
    try:
        data = _dataset(sample, block, settings)
        data.set_label(sample.outcome if outcome is None else outcome)
        data.set_weight(sample.weights if outcome is None else None)
        settings |= {"objective": objective, "seed": seed}
        if any(constraints):
            settings["monotone_constraints"] = list(constraints)
        text = lightgbm.train(settings, data, num_boost_round=int(params["num_trees"])).model_to_string()
        parse(text)
    except (lightgbm.basic.LightGBMError, TreeError) as error:
        raise UserError(f"LightGBM refuses these parameters: {error}. Check the training config.") from None
    return text


@contextmanager
def joined(network: Params) -> Iterator[Params]:
    """While it is open, each fit of this thread is one that all ranks make together, in step, on a part of the rows
    each: bins, histograms and splits are those of all rows. Gives the parameters to fit with; {} for no network.

    `network` are LightGBM's `machines`, `local_listen_port` and `num_machines`. It is joined once and not for each fit,
    as a port that was listened on is not free again at once. Raises UserError where the others can't be reached.
    """
    if not network:
        yield {}
        return
    holder = lightgbm.Booster(dict(FIXED), lightgbm.Dataset(np.zeros((2, 1)), np.array([0.0, 1.0]), params=dict(FIXED)))
    try:
        holder.set_network(**network, listen_time_out=LISTEN_MINUTES)
    except lightgbm.basic.LightGBMError as error:
        raise UserError(f"The ranks that should fit together can't reach one another: {error}.") from None
    try:
        yield {"num_machines": network["num_machines"], "tree_learner": "data", "pre_partition": True}
    finally:
        holder.free_network()


def _dataset(sample: Sample, block: OfferBlock | None, settings: Params) -> lightgbm.Dataset:
    """The sample's rows in bins. For a part of a sample, the bins are those of the whole: made once, and shared.

    They are of the columns alone, and know no outcome.
    """
    if sample.rows is None:
        return _binned(sample, block, settings)
    binning = tuple(sorted((key, settings[key]) for key in BINNING if key in settings))
    key = (None if block is None else block.key(), binning)
    prepared = sample.whole.prepared
    if key not in prepared:
        prepared[key] = _binned(sample.whole, block, settings)
    return prepared[key].subset(sample.rows, params=settings).construct()


def _binned(sample: Sample, block: OfferBlock | None, settings: Params) -> lightgbm.Dataset:
    matrix = sample.contexts if block is None else beside(sample.contexts, sample.offers, block)
    return lightgbm.Dataset(matrix, np.zeros(sample.n), params=dict(settings)).construct()


def offer_block(encoding: Encoding, *, names_only: bool = False) -> OfferBlock:
    """With `names_only` an offer is no more than its name, and NOTHING is none: group and attributes stay 0."""
    columns = encoding.offer_matrix.astype(np.float32)
    if not names_only:
        return OfferBlock(columns, encoding.crossings)
    nameless = f"offer={NOTHING}"
    kept = [column.startswith("offer=") and column != nameless for column in encoding.offer_columns]
    return OfferBlock(np.where(kept, columns, np.float32(0.0)), encoding.crossings)


def beside(contexts: np.ndarray, offers: np.ndarray, block: OfferBlock) -> np.ndarray:
    """(n, columns) float32: the context block, the block of the offer shown, and their crosses."""
    width, after = contexts.shape[1], contexts.shape[1] + block.columns.shape[1]
    out = np.empty((len(contexts), after + len(block.crossings)), np.float32)
    out[:, :width] = contexts
    out[:, width:after] = block.columns[offers]
    for place, crossing in enumerate(block.crossings, start=after):
        out[:, place] = crossing.shown(contexts, offers)
    return out


def monotone_names(encoding: Encoding) -> tuple[str, ...]:
    """What may be declared monotone: the features and offer attributes that are numbers."""
    numbers = [spec.name for spec in encoding.features if spec.type in NUMBERS]
    return (*numbers, *(name for name in encoding.offer_columns if name.startswith("attribute.") and "=" not in name))


def constraints(encoding: Encoding, monotone: Mapping[str, int], *, offers: bool = True) -> list[int]:
    """LightGBM's constraint of each column: +1 rises, −1 falls, 0 free. Without `offers`, of the context block alone.

    Raises UserError for a name that is no number of the encoding.
    """
    known = monotone_names(encoding)
    unknown = sorted(set(monotone) - set(known))
    if unknown:
        raise UserError(
            f"[monotone] names {unknown[0]}, which is no number that the model sees. "
            f"It sees: {', '.join(known) or 'none'}."
        )
    columns = encoding.columns if offers else encoding.context_columns
    return [monotone.get(column, 0) for column in columns]
