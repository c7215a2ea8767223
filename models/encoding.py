"""The design matrix of a model, one row at a time: what is known of a user, where, and the offer's own attributes.

Columns come in blocks. The context block (features by name, then the surface) is the same for all offers of a request;
the offer block (which offer, its group, its attributes) is the same for all users. Crosses of the two come last.
`frames.encode_facts` is the vectorised form of `Encoding.context`; a property test holds the two together.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.domain import NOTHING, Value
from decisioning.errors import UserError
from models.crossing import Cross, Crossing, Traits, crossing, misfit

NAN = math.nan
FLOAT32_MAX = float(np.finfo(np.float32).max)
Encoder = Callable[[Value], Sequence[float] | None]
# A moment means nothing to a model that doesn't know the present, and free text has no columns.
UNUSED = (FeatureType.TIME, FeatureType.TEXT)


@dataclass(frozen=True)
class Encoding:
    """The ordered columns of a model. Features, surfaces and offers are sorted by name; the order never varies."""

    features: tuple[FeatureSpec, ...]
    surfaces: tuple[str, ...]
    offers: tuple[Traits, ...]
    crosses: tuple[Cross, ...] = ()

    @classmethod
    def of(
        cls, catalog: Catalog, surfaces: Sequence[str], offers: Sequence[str], crosses: Sequence[Cross] = ()
    ) -> "Encoding":
        """The encoding for some offers of a catalog (NOTHING may be one of them) on some of its surfaces.

        Raises UserError for a cross of what doesn't go together.
        """
        specs = sorted((spec for spec in catalog.features.values() if spec.type not in UNUSED), key=lambda s: s.name)
        traits = tuple(_traits(catalog, name) for name in sorted(offers))
        for cross in crosses:
            spec = next((spec for spec in specs if spec.name == cross.feature), None)
            held = [one.attributes[cross.attribute] for one in traits if cross.attribute in one.attributes]
            wrong = misfit(spec, cross.attribute, held)
            if wrong:
                raise UserError(f"crosses: {cross.feature} can't be crossed with {cross.attribute}: {wrong}.")
        return cls(tuple(specs), tuple(sorted(surfaces)), traits, tuple(sorted(set(crosses))))

    def __reduce__(self) -> tuple[object, ...]:
        """For other processes, without what was looked up once."""
        return Encoding, (self.features, self.surfaces, self.offers, self.crosses)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All of them, in the order in which a booster over users and offers sees them."""
        return (*self.context_columns, *self.offer_columns, *(cross.column for cross in self.crosses))

    @cached_property
    def context_columns(self) -> tuple[str, ...]:
        return (*(name for spec in self.features for name in feature_columns(spec)), *self._surface_columns)

    @cached_property
    def _surface_columns(self) -> tuple[str, ...]:
        return tuple(f"surface={name}" for name in self.surfaces)

    @cached_property
    def offer_columns(self) -> tuple[str, ...]:
        names = [f"offer={offer.name}" for offer in self.offers]
        names += [f"group={group}" for group in sorted({offer.group for offer in self.offers})]
        numbers, texts = set(), set()
        for offer in self.offers:
            for key, value in offer.attributes.items():
                if isinstance(value, str):
                    texts.add(f"attribute.{key}={value}")
                else:
                    numbers.add(f"attribute.{key}")
        return (*names, *sorted(numbers), *sorted(texts))

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Offer name → its row in `offer_matrix`."""
        return {offer.name: row for row, offer in enumerate(self.offers)}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that change with any feature's name, type, values or default, and with any column."""
        crosses = [self.crosses] if self.crosses else []
        text = json.dumps([features_json(self.features), self.context_columns, self.offer_columns, *crosses])
        return blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def offer_matrix(self) -> np.ndarray:
        """(offers, offer columns) float64 of float32 precision; an attribute that an offer doesn't have is NaN."""
        cells = [_offer_cell(offer, name) for offer in self.offers for name in self.offer_columns]
        return np.array(cells, np.float32).astype(float).reshape(len(self.offers), len(self.offer_columns))

    @cached_property
    def crossings(self) -> tuple[Crossing, ...]:
        """Raises KeyError for a cross of a feature that isn't there."""
        found, at = {}, 0
        for spec in self.features:
            found[spec.name] = (spec, at)
            at += len(feature_columns(spec))
        return tuple(crossing(*found[cross.feature], cross.attribute, self.offers) for cross in self.crosses)

    def context(self, values: Mapping[str, Value], surface: str) -> list[float]:
        """The context block for one request: float32 precision, missing NaN. Total: a misfit counts as missing."""
        row: list[float] = []
        for name, encode, missing in self._encoders:
            row += encode(values.get(name)) or missing
        row += self._surface_rows.get(surface, self._no_surface)
        # As float32, like a packed snapshot: what was trained on and what is served round in the same way.
        return np.array(row, np.float32).tolist()

    @cached_property
    def _encoders(self) -> tuple[tuple[str, Encoder, Sequence[float]], ...]:
        return tuple((spec.name, encoder(spec), missing_columns(spec)) for spec in self.features)

    @cached_property
    def _surface_rows(self) -> Mapping[str, tuple[float, ...]]:
        return {name: tuple(float(name == other) for other in self.surfaces) for name in self.surfaces}

    @cached_property
    def _no_surface(self) -> tuple[float, ...]:
        return (0.0,) * len(self.surfaces)


def feature_columns(spec: FeatureSpec) -> tuple[str, ...]:
    """The columns of one feature, in order."""
    if spec.type is FeatureType.ENUM:
        return tuple(f"{spec.name}={value}" for value in spec.values)
    if spec.type is FeatureType.SET:
        return tuple(f"{spec.name} has {value}" for value in spec.values)
    return (spec.name,)


def encoder(spec: FeatureSpec) -> Encoder:
    """The function from a feature's value to its columns. It never raises; None is for what is missing or misfits."""
    if spec.type is FeatureType.ENUM:
        rows = {value: tuple(float(value == other) for other in spec.values) for value in spec.values}
        return lambda value: rows.get(value) if isinstance(value, str) else None
    if spec.type is FeatureType.SET:
        members = spec.values
        return lambda value: tuple(float(m in value) for m in members) if isinstance(value, frozenset) else None
    if spec.type is FeatureType.BOOL:
        return lambda value: (float(value),) if isinstance(value, bool) else None
    return _number


def missing_columns(spec: FeatureSpec) -> Sequence[float]:
    """The columns of a missing value: those of the default, else NaN."""
    return encoder(spec)(spec.default) or (NAN,) * len(feature_columns(spec))


def _number(value: Value) -> Sequence[float] | None:
    """A number that float32 can hold; everything else is missing, as in a packed snapshot."""
    if isinstance(value, int | float) and not isinstance(value, bool) and -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return (float(value),)
    return None


def _traits(catalog: Catalog, name: str) -> Traits:
    if name == NOTHING:
        return Traits(NOTHING, NOTHING)
    offer = catalog.offers[name]
    return Traits(name, offer.group, dict(sorted(offer.attributes.items())))


def _offer_cell(offer: Traits, column: str) -> float:
    kind, _, rest = column.partition("=")
    if kind == "offer":
        return float(offer.name == rest)
    if kind == "group":
        return float(offer.group == rest)
    value = offer.attributes.get(kind.removeprefix("attribute."))
    if rest:
        return NAN if value is None else float(value == rest)
    return float(value) if isinstance(value, int | float) else NAN


def features_json(features: Sequence[FeatureSpec]) -> list[dict[str, object]]:
    """What of the features a model depends on, as JSON."""
    return [
        {
            "name": spec.name,
            "type": str(spec.type),
            "values": list(spec.values),
            "default": value_json(spec.default),
            "from_context": spec.from_context,
        }
        for spec in features
    ]


def features_from_json(rows: Sequence[Mapping[str, object]]) -> tuple[FeatureSpec, ...]:
    """The inverse of `features_json`. Raises KeyError or ValueError for rows of another form."""
    specs = []
    for row in rows:
        kind = FeatureType(row["type"])
        default = value_from_json(row["default"])
        specs.append(
            FeatureSpec(row["name"], kind, tuple(row["values"]), default, from_context=bool(row["from_context"]))
        )
    return tuple(specs)


def value_json(value: Value) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def value_from_json(value: object) -> Value:
    return frozenset(value) if isinstance(value, list) else value
