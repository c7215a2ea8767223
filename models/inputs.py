"""Which features a model reads, and how often its trees ask for one of them."""

from dataclasses import dataclass

from models.artifact import Model
from models.encoding import feature_columns
from models.trees import parse


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads one feature."""

    model: str
    """Its name and version, such as "upsell/3"."""
    splits: int
    """In how many splits of its trees; 0 of 0 for a model without trees."""
    of: int

    def to_json(self) -> dict[str, object]:
        return {"model": self.model, "splits": self.splits, "of": self.of}


def reading(model: Model, feature: str) -> Reading | None:
    """None where the model doesn't take the feature. In every booster the context's columns come first."""
    names = {spec.name for spec in model.encoding.features}
    if feature not in names:
        return None
    at, columns = 0, range(0)
    for spec in model.encoding.features:
        width = len(feature_columns(spec))
        if spec.name == feature:
            columns = range(at, at + width)
        at += width
    crossed = {place for place, name in enumerate(model.encoding.columns) if name.startswith(f"{feature} × ")}
    asked = [column for text in model.predictor.texts.values() for tree in parse(text).trees for column in tree.feature]
    return Reading(model.label, sum(column in columns or column in crossed for column in asked), len(asked))
