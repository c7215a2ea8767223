"""What takes the place of the models where a server is behind: what they said of the user before, or their means."""

from collections.abc import Mapping, Sequence

from decisioning.domain import Known, Scorer, Scores, Shed, Value


class Recalled:
    """A scorer that asks no model. An offer that `known` has no scores for gets its prior."""

    def __init__(self, scorer: Scorer, known: Known | None) -> None:
        self._scorer, self._known = scorer, known

    @property
    def label(self) -> str:
        """The model's, if it gave any of the scores; empty where all are priors."""
        return self._scorer.label if self._known is not None else ""

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        """What the model said before. `features` are as old as that in its eyes, so they are not looked at."""
        known = self._known
        if known is None:
            return self.prior(surface, offers)
        if known.offers == offers:
            return Scores(known.p_convert, known.effect or known.p_convert)
        pairs = dict(zip(known.offers, zip(known.p_convert, known.effect or known.p_convert, strict=True), strict=True))
        priors = self.prior(surface, offers)
        found = [pairs.get(name, (p, e)) for name, p, e in zip(offers, priors.p_convert, priors.effect, strict=True)]
        return Scores([p for p, _ in found], [e for _, e in found])

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self._scorer.prior(surface, offers)


def recalled(scorers: Mapping[str, Scorer], shed: Shed | None) -> Mapping[str, Scorer]:
    """What scores in place of `scorers`. What another version of a model said is nothing that this one did."""
    if shed is None:
        return scorers
    known = shed.known
    return {name: Recalled(scorer, known.get(scorer.label)) for name, scorer in scorers.items()}
