"""What is chosen on a surface by the extension `_decide.c`, where it is built. `engine.decided` says what is right."""

import struct
import sys
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from decisioning.catalog import Creative
from decisioning.domain import MILLION, NOTHING, Decision, Facts, Policy, Request, Shown, Source
from decisioning.experiments import ABLATION, NO_MODEL
from decisioning.native import native
from decisioning.plan import Screen, SurfacePlan

if TYPE_CHECKING:
    from decisioning.engine import Case, Release

VERSION = 2
"""Of what Python and the extension ask of one another: both have the same."""

LARGEST = 2**53
"""A priority that is higher might not be a double."""

Decide = Callable[["Release", Request, Facts], Decision]
"""For requests to one surface."""


def decider(
    release: "Release",
    plan: SurfacePlan,
    case: "type[Case]",
    twin: Callable[["Case"], Decision],
    rival: Callable[["Case"], str],
) -> Decide:
    """What examines, and then does the same as `twin`: by Python where the extension isn't there, or can't ask the
    surface's model.

    `rival`: a challenger's choice. None of them may hold on to the release, as nothing would ever let go of it.
    """
    examine = release.examiners[plan.surface.name]

    def by_python(release: "Release", request: Request, facts: Facts) -> Decision:
        return twin(examine(release, request, facts))

    found, scorer = native("decisioning._decide", VERSION), release.scorers.get(plan.only_model or "")
    if found is None or scorer is None or not scorer.label or sys.byteorder != "little":
        return by_python
    names = tuple(offer.name for offer in plan.offers)
    ready = getattr(scorer, "ready", None)  # of models that C can ask
    asks = None if ready is None else ready(plan.surface.name, names)
    if asks is None:
        return by_python
    surface, exploration = plan.surface, release.catalog.exploration
    made = found.Decider(
        types=(case, Request, Facts, Screen, Shown, Policy, Decision),
        examine=examine,
        twin=twin,
        names=names,
        creatives=tuple(_creative(offer.creative) for offer in plan.offers),
        asks=asks,
        said=getattr(scorer, "said", None),
        worths=_worths(plan),
        moments=struct.pack(f"<{len(plan.moments)}d", *plan.moments),
        rival=rival if release.challengers else None,
        release=release.id,
        source=Source.MODEL,
        label=scorer.label,
        absent=release.absent,
        nothing=NOTHING,
        salt=f"{release.salt}|".encode(),
        slots=surface.slots,
        uniform=round(exploration.uniform * MILLION),
        canary=round(exploration.challenger * MILLION),
        min_p=-inf if surface.min_p_convert is None else surface.min_p_convert,
        may_be_nothing=surface.allow_nothing,
    )
    return made.decide  # type: ignore[no-any-return]


def _creative(creative: Creative | None) -> dict[str | None, str] | None:
    """The texts of the locales that it knows; None has that of any other."""
    return None if creative is None else {locale: creative.localised(locale) for locale in (None, *creative.locales)}


def _worths(plan: SurfacePlan) -> Callable[[float, Mapping[str, str], int], bytes | None]:
    """What gives the doubles of min_score, of each offer's worth, and of each one's priority class.

    None where no score is personal, or a priority is too high: that is the twin's.
    """

    def worths(now: float, arms: Mapping[str, str], weights: int) -> bytes | None:
        factors = plan.factors(now, arms, weights)
        if arms.get(ABLATION) == NO_MODEL or any(abs(one) > LARGEST for one in factors.priority):
            return None
        least = -inf if factors.min_score is None else factors.min_score
        numbers: Any = (least, *factors.worth, *factors.priority)
        return struct.pack(f"<{len(numbers)}d", *numbers)

    return worths
