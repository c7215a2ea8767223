"""The bytes of an answer to a request for a decision."""

from collections.abc import Sequence
from time import gmtime, strftime

import msgspec

from decisioning.domain import Decision, Reason, Shown, Source
from serving.schemas import DecisionAnswer, OfferAnswer, ReasonAnswer
from stores.log.written import Field, by_c

_encode = msgspec.json.Encoder().encode
_FIELDS = {
    Shown: (
        *(Field(name, name) for name in ("offer", "slot", "creative")),
        *(Field(name, name, is_rounded=True) for name in ("p_convert", "score")),
        Field("probability", "probability"),
    ),
    Decision: (
        *(Field(name, name) for name in ("decision_id", "surface")),
        Field("slate", "offers"),
        *(Field(name, name) for name in ("source", "degraded", "release")),
        Field("model", "model", absent=b'"none"'),
    ),
}
_by_c = by_c(_FIELDS, texts=(Source,), last="expires_at")
"""Gives the same bytes sooner; None for unusual ones, and for all where the extension is not built."""


def encoded(decision: Decision, expires: float, why: Sequence[Reason] | None) -> bytes:
    """A DecisionAnswer. `expires`: epoch seconds. `why`: the reasons, where they were asked for."""
    if why is None and _by_c is not None and (found := _by_c(decision, expires)) is not None:
        return found
    return _by_msgspec(decision, expires, why)


def _by_msgspec(decision: Decision, expires: float, why: Sequence[Reason] | None) -> bytes:
    return _encode(
        DecisionAnswer(
            decision.decision_id,
            decision.surface,
            [_offer(one) for one in decision.slate],
            decision.source.value,
            list(decision.degraded),
            decision.release,
            "none" if decision.model is None else decision.model,
            rfc3339(expires),
            None if why is None else [_reason(one) for one in why],
        )
    )


def _offer(one: Shown) -> OfferAnswer:
    p_convert, score = one.p_convert, one.score
    return OfferAnswer(
        one.offer,
        one.slot,
        one.creative,
        None if p_convert is None else round(p_convert, 6),
        None if score is None else round(score, 6),
        one.probability,
    )


def _reason(one: Reason) -> ReasonAnswer:
    change = one.change.words if one.change else ""
    return ReasonAnswer(one.offer, str(one.stage), one.rule, one.detail, one.where, change)


def rfc3339(moment: float) -> str:
    """A moment in epoch seconds, to the millisecond, as `datetime.fromtimestamp(moment, UTC)` would have it."""
    micros = round(moment % 1 * 1e6)
    second = int(moment // 1) + micros // 1_000_000
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)) + f".{micros % 1_000_000 // 1000:03d}Z"
