"""Runs the definitions on DuckDB: who is observed when, and what was known of them then."""

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from decisioning.catalog import FeatureSpec, FeatureType
from features import portable
from features.definitions import FEATURES, Feature
from features.frames import masks_to_lists, typed_column
from features.portability import check_definitions

Frame = pd.DataFrame | pa.Table

MOMENT = pa.timestamp("us", "UTC")
"""Engines don't compare times of different units: all are microseconds."""

ARROW_TYPES = {
    **dict.fromkeys(("at", "as_of", "signup_at", "born_at"), MOMENT),
    **dict.fromkeys(("decision_id", "user_id", "type", "item", "market"), pa.string()),
    "amount": pa.float64(),
    "hour": pa.int64(),
}

IBIS_TYPES = {
    FeatureType.BOOL: dt.boolean,
    FeatureType.INT: dt.int64,
    FeatureType.FLOAT: dt.float64,
    FeatureType.ENUM: dt.string,
    FeatureType.SET: dt.int64,
}


def compute(users: Frame, events: Frame, observations: Frame, features: tuple[Feature, ...] = FEATURES) -> pd.DataFrame:
    """The features as of each observation; an event at or after that moment, or a later sign-up, is not seen.

    `observations`: `user_id`, `as_of`, and `decision_id` where there is one; a user may be observed many times. Returns
    the observations in their order with one typed column per feature (dtypes as in `stores.tables`).
    """
    keys = [name for name in ("decision_id", "user_id", "as_of") if name in _columns(observations)]
    connection = ibis.duckdb.connect()
    try:
        tables = (_memory(users), _memory(events), _memory(_numbered(observations)))
        table = connection.to_pyarrow(expression(*tables, features).order_by("observation"))
    finally:
        connection.disconnect()
    frame = table.select(keys).to_pandas(types_mapper=_text_as_string)
    columns = {feature.name: feature_column(feature.spec, table[feature.name].to_pandas()) for feature in features}
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def expression(
    users: ir.Table, events: ir.Table, observations: ir.Table, features: tuple[Feature, ...] = FEATURES
) -> ir.Table:
    """The same, as one Ibis expression for any engine. `observations` also has a unique integer `observation`.

    One join and one aggregation serve all features, so that the events are read once.
    """
    check_definitions(tuple(features))
    seen = observations.join(
        events, [observations.user_id == events.user_id, events.at < observations.as_of], how="inner"
    ).select(
        observation=observations.observation,
        at=events.at,
        type=events.type,
        item=events.item,
        amount=events.amount,
        hour=events.hour,
        age=portable.seconds(observations.as_of) - portable.seconds(events.at),
    )
    of_events = {feature.name: feature.of_events(seen) for feature in features if feature.of_events}
    aggregated = seen.group_by("observation").aggregate(**of_events)

    known = users.select("user_id", "signup_at", "born_at", "market", known=ibis.literal(True))
    person = observations.left_join(
        known, [observations.user_id == known.user_id, known.signup_at < observations.as_of]
    ).drop("user_id_right")
    joined = person.left_join(aggregated, "observation").drop("observation_right")
    return joined.select(
        *observations.columns, **{feature.name: final(feature, joined, _value(feature, joined)) for feature in features}
    )


def _value(feature: Feature, joined: ir.Table) -> ir.Value:
    return feature.of_user(joined) if feature.of_user else joined[feature.name]


def final(feature: Feature, joined: ir.Table, value: ir.Value) -> ir.Value:
    """The value with what an absence of events means, in the type that is declared. `joined` says who is `known`."""
    if feature.when_no_events is not None:
        # Only of a known user does "nothing seen" mean that nothing happened.
        value = ibis.ifelse(joined.known & value.isnull(), feature.when_no_events, value)
    return value.cast(IBIS_TYPES[feature.spec.type])


def feature_column(spec: FeatureSpec, values: pd.Series) -> pd.Series:
    """A column as it came from the engine, in the contract's dtype."""
    return masks_to_lists(spec, values) if spec.type is FeatureType.SET else typed_column(spec, values)


def _columns(frame: Frame) -> list[str]:
    return list(frame.columns) if isinstance(frame, pd.DataFrame) else frame.column_names


def _arrow(frame: Frame) -> pa.Table:
    """As Arrow with exact types, which a frame of pandas doesn't always show. Rounding down can't show the future."""
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    types = [ARROW_TYPES.get(field.name, field.type) for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)), safe=False)


def _memory(frame: Frame) -> ir.Table:
    return ibis.memtable(_arrow(frame))


def _numbered(observations: Frame) -> pa.Table:
    table = _arrow(observations)
    return table.append_column("observation", pa.array(range(table.num_rows), pa.int64()))


def _text_as_string(type_: pa.DataType) -> pd.StringDtype | None:
    return pd.StringDtype() if pa.types.is_string(type_) or pa.types.is_large_string(type_) else None
