"""Answers that stay the same within a surface's sticky period: what was answered first is remembered in the store."""

import msgspec

from decisioning.catalog import Surface
from decisioning.domain import Decision, Facts, Request, Shown, Source
from decisioning.engine import Release
from decisioning.sticky import still_allowed


class Given(msgspec.Struct, array_like=True, frozen=True):
    """An answer, as far as it has to be given again."""

    slots: int
    """How many were asked for."""
    slate: tuple[Shown, ...]
    source: Source
    model: str | None
    release: str
    drawn: bool
    """Whether the policy drew it. A fallback for want of anything else is not drawn: it makes way as soon as it can."""


_decoder = msgspec.msgpack.Decoder(Given)


def given(surface: Surface, request: Request, decision: Decision) -> bytes:
    """What is to be remembered of an answer."""
    return msgspec.msgpack.encode(
        Given(
            _slots(surface, request),
            decision.slate,
            decision.source,
            decision.model,
            decision.release,
            decision.policy is not None,
        )
    )


def again(release: Release, surface: Surface, request: Request, facts: Facts, answer: bytes | None) -> Decision | None:
    """The answer given before, where it was drawn, is not too short, and every rule still allows all of it."""
    before, slots = _read(answer), _slots(surface, request)
    if before is None or not before.drawn or slots > before.slots:
        return None
    slate = before.slate[:slots]
    if not still_allowed(release, request, facts, [one.offer for one in slate]):
        return None
    return Decision(
        decision_id=request.decision_id,
        surface=request.surface,
        release=before.release,
        slate=slate,
        source=before.source,
        model=before.model,
        degraded=(*facts.degraded, *release.absent),
        eligible=(),
        p_convert=(),
        scores=(),
        truth="",
        policy=None,
    )


def is_same(decision: Decision, answer: bytes | None) -> bool:
    """Whether a decision that was not drawn shows just what the one before it did, so that it is nothing new."""
    before = _read(answer)
    if before is None or before.drawn or decision.policy is not None:
        return False
    return [one.offer for one in before.slate] == [one.offer for one in decision.slate]


def _slots(surface: Surface, request: Request) -> int:
    return min(request.slots or surface.slots, surface.slots)


def _read(answer: bytes | None) -> Given | None:
    """None for bytes of another version: then it is as if nothing had been answered."""
    try:
        return _decoder.decode(answer) if answer else None
    except msgspec.MsgspecError:
        return None
