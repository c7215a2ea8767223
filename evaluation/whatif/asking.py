"""What if: the log, a proposal, and the report of what it would have changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decisioning.catalog import Catalog, FeatureType
from decisioning.engine import Release
from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from evaluation.recorded.rewards import Outcomes, Rewards, conversion_types, read_outcomes
from evaluation.recorded.sweeping import Progress, quietly, sweep
from evaluation.recorded.traffic import Traffic, extended, latest_releases, recorded, sticky_surfaces, without_repeats
from evaluation.whatif.contenders import caveats
from evaluation.whatif.passes import WhatIf
from evaluation.whatif.proposals import Proposal
from evaluation.whatif.report import Subject, report
from scaling.engines import Engine
from scaling.local import HERE

USUAL_SEGMENTS = ("market", "tier")
TELLING = (FeatureType.ENUM, FeatureType.BOOL)


def ask(
    logs: Path,
    proposal: Proposal,
    *,
    last: str = "7d",
    by: Sequence[str] | None = None,
    engine: Engine = HERE,
    progress: Progress = quietly,
) -> dict[str, Any]:
    """The report (see `whatif_report.report`) of a proposal on the decisions that `last` means.

    `logs` holds the folders decisions and events. Raises UserError where nothing can be said: no decisions, releases
    that can't be loaded, a catalog with errors, a feature that can't tell segments apart.
    """
    base, other = opened(proposal, logs)
    by = segments_of(base.catalog, by)
    found = Recorded.of(logs, last, base, other, engine=engine)
    tally = sweep(found.asked(proposal, by), found.traffic.chunks, engine=engine, progress=progress)
    if not tally.all.decisions:
        why = [f"{count:,} {what}" for what, count in tally.left_out.items()]
        why += [f"{count:,} by {release}, which can't be loaded" for release, count in tally.unloadable.items()]
        raise UserError(f"None of the recorded decisions can be decided again: {'; '.join(why) or 'there are none'}.")
    subject = Subject(
        before=_named(base) if proposal.base else "each decision's own release",
        after=_named(other, None if proposal.catalog_files is None else other.catalog.hash) + _pulled(proposal),
        since=max(found.traffic.since, 0.0),
        until=found.traffic.until,
        judged=(max(found.judged_since, 0.0), found.judged_until),
        currency=other.catalog.currency,
        longest_window=found.longest_window,
        caveats=(*caveats(base, other), *_revalued(base.catalog, other.catalog)),
    )
    return report(tally, subject)


@dataclass(frozen=True)
class Recorded:
    """Some traffic, and what followed it."""

    traffic: Traffic
    outcomes: Outcomes
    longest_window: float
    """Seconds within which conversions count, at most."""
    judged_since: float
    """From when on decisions have a say in values. Where none of those meant is old enough, as long a time before."""

    @classmethod
    def of(cls, logs: Path, last: str, base: Release, other: Release, *, engine: Engine = HERE) -> "Recorded":
        folder = logs / "decisions"
        traffic = recorded(folder, last)
        outcomes = read_outcomes(logs / "events", conversion_types(base.catalog, other.catalog))
        window = Rewards(outcomes, 0.0, other.catalog, base.catalog).longest
        span = traffic.until - traffic.since
        since = traffic.since if span > window else max(traffic.until, outcomes.until) - window - span
        traffic = extended(traffic, folder, since)
        traffic = without_repeats(traffic, sticky_surfaces(base.catalog, other.catalog), engine=engine)
        return cls(traffic, outcomes, window, since)

    @property
    def until(self) -> float:
        """The moment up to which outcomes are known."""
        return max(self.traffic.until, self.outcomes.until)

    @property
    def judged_until(self) -> float:
        """Decisions after this moment are too young for values."""
        return self.until - self.longest_window

    def asked(self, proposal: Proposal, by: Sequence[str] = ()) -> WhatIf:
        traffic = self.traffic
        return WhatIf(proposal, self.outcomes, self.until, tuple(by), traffic.since, self.judged_since, traffic.repeats)


def opened(proposal: Proposal, logs: Path) -> tuple[Release, Release]:
    """Both sides of a proposal. Raises UserError where either has errors.

    Where each decision's own release is the base, that of the latest decision whose release can be loaded.
    """
    proposal.check()
    if proposal.base is not None:
        return proposal(proposal.base)
    refused: UserError | None = None
    for release in latest_releases(logs / "decisions"):
        try:
            return proposal(release)
        except UserError as error:
            refused = refused or error
    raise refused or UserError(f"There are no decisions in {logs / 'decisions'} yet: serve some first.")


def segments_of(catalog: Catalog, by: Sequence[str] | None) -> tuple[str, ...]:
    """The features to tell figures by: those asked for, or the usual ones as far as the catalog has them."""
    known = {name for name, spec in catalog.features.items() if spec.type in TELLING}
    if by is None:
        return tuple(name for name in USUAL_SEGMENTS if name in known)
    for name in by:
        if name not in known:
            raise UserError(
                f"--by takes a feature of the catalog with a few values (enum or bool), and not {name}. "
                f"{did_you_mean(name, known)}".rstrip()
            )
    return tuple(dict.fromkeys(by))


def _named(release: Release, catalog: str | None = None) -> str:
    models = ", ".join(sorted(scorer.label for scorer in release.scorers.values())) or "rules alone"
    what = f"release {release.id}" if catalog is None else f"catalog {catalog[:12]}"
    return f"{what} with {models}"


def _pulled(proposal: Proposal) -> str:
    return "".join(
        f", a lever of {lever.times:.3f} on {', '.join(sorted(lever.scope.only_offers))}" for lever in proposal.levers
    )


def _revalued(base: Catalog, other: Catalog) -> tuple[str, ...]:
    names = sorted(
        name
        for name, offer in other.offers.items()
        if name in base.offers and base.offers[name].score.net != offer.score.net
    )
    if not names:
        return ()
    return (f"Both sides are valued by the new catalog, in which {', '.join(names)} are worth something else.",)
